"""What a director tells of a real server that is being taken out: part of its report on a table."""

from typing import Annotated

from msgspec import Meta, Struct


class DrainReport(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What is left of a real server that is being taken out, as this director counts it."""

    real_server: Annotated[str, Meta(max_length=253, description="RealServer.")]
    connections: Annotated[
        int, Meta(ge=0, description="Live connections; large numbers move only when they changed by a twentieth.")
    ] = 0
    remembered: Annotated[
        int, Meta(ge=0, description="Clients that persistence brings back to it; 0 where they are not waited for.")
    ] = 0
    idle: Annotated[
        bool, Meta(description="For a second there was none, and no new one could come in: it may leave.")
    ] = False
