"""Label selectors, as everywhere in Kubernetes: all labels and all expressions must match."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from lvs_dr.api.models.rules import ApiModel, rule, validated

LABEL_KEY = r"^([-a-z0-9.]+/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"

BAD_VALUE = "must be a label value: at most 63 letters, digits, '-', '_' and '.', letters or digits at both ends"
BAD_KEY = "must be a label key: a name of at most 63 letters, digits, '-', '_' and '.', with an optional prefix and '/'"
BAD_EXPRESSION = "In and NotIn need at least one value; Exists and DoesNotExist take none"
EMPTY_SELECTOR = "an empty selector would select everything: name at least one label, such as matchLabels: {pool: web}"

LabelValue = Annotated[
    str,
    Field(max_length=63, json_schema_extra=validated(rule(f"self.matches('{LABEL_VALUE}')", BAD_VALUE))),
]


class SelectorOperator(StrEnum):
    """How an expression relates a label to its values."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class LabelExpression(ApiModel):
    """One condition on one label."""

    model_config = ConfigDict(
        json_schema_extra=validated(
            rule(
                "(self.operator == 'In' || self.operator == 'NotIn') == (has(self.values) && size(self.values) > 0)",
                BAD_EXPRESSION,
            )
        )
    )

    key: Annotated[
        str,
        Field(
            min_length=1,
            max_length=317,
            description="Key of the label, for example pool.",
            json_schema_extra=validated(rule(f"self.matches('{LABEL_KEY}')", BAD_KEY)),
        ),
    ]
    operator: Annotated[
        SelectorOperator,
        Field(
            description="In: the label has one of the values. NotIn: it has none of them, or is missing. Exists: the"
            " label is there. DoesNotExist: it is not."
        ),
    ]
    values: Annotated[
        tuple[LabelValue, ...],
        Field(
            max_length=64, description="Values for In and NotIn; left out for Exists and DoesNotExist. Default: none."
        ),
    ] = ()

    @model_validator(mode="after")
    def _values_fit_the_operator(self) -> Self:
        if (self.operator in {SelectorOperator.IN, SelectorOperator.NOT_IN}) != bool(self.values):
            raise ValueError(BAD_EXPRESSION)
        return self


class LabelSelector(ApiModel):
    """A label selector; an object is selected when all labels and all expressions match."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

    match_labels: Annotated[
        dict[str, LabelValue],
        Field(
            max_length=32,
            description="Labels the object must have, with exactly these values, such as {pool: web}. Default: none.",
            json_schema_extra=validated(rule(f"self.all(key, key.matches('{LABEL_KEY}'))", BAD_KEY)),
        ),
    ] = Field(default_factory=dict)
    match_expressions: Annotated[
        tuple[LabelExpression, ...],
        Field(max_length=32, description="Further conditions on labels; all of them must hold. Default: none."),
    ] = ()


class NonEmptyLabelSelector(LabelSelector):
    """A label selector that must name something."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-map-type": "atomic",
            **validated(
                rule(
                    "(has(self.matchLabels) && size(self.matchLabels) > 0)"
                    " || (has(self.matchExpressions) && size(self.matchExpressions) > 0)",
                    EMPTY_SELECTOR,
                )
            ),
        }
    )

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not self.match_labels and not self.match_expressions:
            raise ValueError(EMPTY_SELECTOR)
        return self
