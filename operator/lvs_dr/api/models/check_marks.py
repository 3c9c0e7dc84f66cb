"""The firewall marks of checks through VIPs."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from lvs_dr.api.models.rules import ApiModel, rule, validated
from lvs_dr.core.director_group import MarkRange

LAST_BELOW_FIRST = "last must not be smaller than first: the range holds one mark for each real server of the group"
TOO_MANY_MARKS = "the range holds at most 65536 marks: lower last"
MOST = 65536
_DEFAULT = MarkRange()

_TEXT = " 1 to 4294967295."


class CheckMarks(ApiModel):
    """A range of firewall marks (SO_MARK), one for each real server that the group's directors check through a VIP.

    They mark packets of the directors' own checks and never leave the node. Choose others only where something on the
    directors uses these. Bits to stay clear of: 0x4000 and 0x8000 (kube-proxy), 0x2000 (CNI portmap), 0x0f00 (Cilium),
    0x80 (AWS), 0xffff0000 (Calico and others).
    """

    model_config = ConfigDict(
        json_schema_extra=validated(
            rule("self.first <= self.last", LAST_BELOW_FIRST, field_path=".last"),
            rule("self.last - self.first < 65536", TOO_MANY_MARKS, field_path=".last"),
        )
    )

    first: Annotated[
        int, Field(ge=1, le=4294967295, description=f"First mark.{_TEXT} Default: {_DEFAULT.first} (0x1001).")
    ] = _DEFAULT.first
    last: Annotated[
        int, Field(ge=1, le=4294967295, description=f"Last mark.{_TEXT} Default: {_DEFAULT.last} (0x10ff).")
    ] = _DEFAULT.last

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.last < self.first:
            raise ValueError(LAST_BELOW_FIRST)
        if self.last - self.first >= MOST:
            raise ValueError(TOO_MANY_MARKS)
        return self
