"""What holds when few real servers are healthy."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from lvs_dr.api.models.rules import ApiModel, rule, validated

WEIGHTS_TOGETHER = "weightHysteresis is for minimumWeight: set that, too, or leave it out"


class Quorum(ApiModel):
    """How many real servers must be healthy for the service to be Ready, and to do without its sorryServer."""

    model_config = ConfigDict(
        json_schema_extra=validated(rule("!has(self.weightHysteresis) || has(self.minimumWeight)", WEIGHTS_TOGETHER))
    )

    minimum_healthy: Annotated[
        int,
        Field(
            ge=1,
            le=1024,
            description="With fewer healthy real servers Ready is False, reason QuorumLost. Those that are healthy go"
            " on serving, unless there is a sorryServer. Default: 1.",
        ),
    ] = 1
    hysteresis: Annotated[
        int,
        Field(
            ge=0,
            le=1024,
            description="After the quorum was lost, so many more than minimumHealthy must be healthy (but not more than"
            " are selected) before Ready is True again. Default: 0.",
        ),
    ] = 0
    minimum_weight: Annotated[
        int | None,
        Field(
            ge=1,
            le=67108864,
            description="The healthy real servers must also weigh so much together, by their configured weights (100"
            " each by default). Default: none, their number alone counts.",
        ),
    ] = None
    weight_hysteresis: Annotated[
        int | None,
        Field(
            ge=1,
            le=67108864,
            description="As hysteresis, for minimumWeight: after the quorum was lost they must weigh so much more (but"
            " not more than all together). Default: 0.",
        ),
    ] = None

    @model_validator(mode="after")
    def _weights_together(self) -> Self:
        if self.weight_hysteresis is not None and self.minimum_weight is None:
            raise ValueError(WEIGHTS_TOGETHER)
        return self
