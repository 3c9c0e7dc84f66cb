"""What a director tells of a weight that it changed by itself: part of its report on a table."""

from typing import Annotated

from msgspec import Meta, Struct


class WeightReport(Struct, frozen=True, rename="camel", omit_defaults=True):
    """The last change of a real server's weight that nobody configured, and why."""

    real_server: Annotated[str, Meta(max_length=253, description="RealServer.")]
    weight: Annotated[int, Meta(ge=0, le=65535, description="Weight after the change.")] = 0
    message: Annotated[str, Meta(max_length=256, description="Weight before and after, and the reason.")] = ""
    since: Annotated[str, Meta(max_length=40, description="When it was changed (RFC 3339).")] = ""
