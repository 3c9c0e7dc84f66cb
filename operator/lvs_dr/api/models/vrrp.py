"""How the directors of a group agree on who holds which VIP: VRRP version 3 (RFC 9568)."""

from typing import Annotated, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from lvs_dr.api.models.rules import ApiModel, rule, validated

TOO_MANY_IDS = (
    "virtual router ids end at 255: firstVirtualRouterID + instances - 1 must not exceed 255; choose a lower"
    " firstVirtualRouterID, or fewer instances"
)
NOT_CENTISECONDS = "must be a multiple of 10, because VRRP counts in hundredths of a second, such as 100"
DELAY_WITHOUT_PREEMPTION = (
    "preemptDelaySeconds is for preempt: true; set that (with several instances it is the default), or leave it out"
)
FIRST_ID = 51
MAXIMUM_ID = 255
INSTANCES = 1
STEP = 10


def _centiseconds(milliseconds: int) -> int:
    if milliseconds % STEP:
        raise ValueError(NOT_CENTISECONDS)
    return milliseconds


class DirectorVrrp(ApiModel):
    """The election among the directors of a group."""

    model_config = ConfigDict(
        json_schema_extra=validated(
            rule("self.firstVirtualRouterID + self.instances <= 256", TOO_MANY_IDS, field_path=".instances"),
            rule(
                "!has(self.preemptDelaySeconds) || (has(self.preempt) ? self.preempt : self.instances > 1)",
                DELAY_WITHOUT_PREEMPTION,
                field_path=".preemptDelaySeconds",
            ),
        )
    )

    first_virtual_router_id: Annotated[
        int,
        Field(
            ge=1,
            le=MAXIMUM_ID,
            alias="firstVirtualRouterID",
            description="First virtual router id (VRID) of the group, 1 to 255. Ids must be unique on the network"
            " segment: two groups there, or a keepalived beside them, need different ones (condition"
            " VirtualRouterIDsUnique). After a change VIPs move to their new id one by one, each away for about as long"
            " as two reports of the agents take, a second or two. Default: 51.",
        ),
    ] = FIRST_ID
    instances: Annotated[
        int,
        Field(
            ge=1,
            le=32,
            description="Number of virtual routers that the group's VIPs are spread over, with ids from"
            " firstVirtualRouterID on, 1 to 32. With 1 one director holds all VIPs and the others wait. With as many as"
            " there are directors each holds its share; with more, what a failed one held is shared among the others. A"
            " VIP stays in its virtual router when this grows; when it shrinks, VIPs of those that go move as after a"
            " change of firstVirtualRouterID. Default: 1.",
        ),
    ] = INSTANCES
    advertisement_interval_milliseconds: Annotated[
        int,
        Field(
            ge=10,
            le=40950,
            json_schema_extra=validated(rule("self % 10 == 0", NOT_CENTISECONDS)),
            description="Milliseconds between two adverts of the Active director, 10 to 40950 in steps of 10. Another"
            " director takes over when it has heard none for a bit more than three times as long. Shorter: faster, and"
            " more easily disturbed by load or loss. Up to a third of a second, a director whose speaker is killed goes"
            " on answering for up to a second beside its successor. Default: 100.",
        ),
        AfterValidator(_centiseconds),
    ] = 100
    preempt: Annotated[
        bool | None,
        Field(
            description="True: a director with a higher priority takes the VIPs back when it returns, which moves"
            " connections a second time; false: they stay where they are. Default: false with one instance, true with"
            " several, because their VIPs would else end on one director."
        ),
    ] = None
    preempt_delay_seconds: Annotated[
        int | None,
        Field(
            ge=0,
            le=86400,
            description="Seconds that a returning director waits before it takes VIPs back, 0 to 86400: time to learn"
            " of the connections that exist. Default: 0 with one instance, 120 with several.",
        ),
    ] = None
    unicast: Annotated[
        bool | None,
        Field(
            description="True: adverts go to each director's own address instead of the multicast group (224.0.0.18,"
            " ff02::12), for networks that do not carry multicast. Default: false."
        ),
    ] = None
    stop_hold_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=86400,
            description="Seconds for which a director that is stopped in good order keeps its VIPs when no other one"
            " takes over, 0 to 86400: time for an upgrade or a restart. The only director of a group keeps them for"
            " good. Default: 300.",
        ),
    ] = 300

    @model_validator(mode="after")
    def _ids_end(self) -> Self:
        if self.first_virtual_router_id + self.instances - 1 > MAXIMUM_ID:
            raise ValueError(TOO_MANY_IDS)
        if self.preempt_delay_seconds is not None and not self.effective_preempt:
            raise ValueError(DELAY_WITHOUT_PREEMPTION)
        return self

    @property
    def effective_preempt(self) -> bool:
        """`preempt`, or its default."""
        return self.instances > 1 if self.preempt is None else self.preempt
