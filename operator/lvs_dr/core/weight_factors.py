"""What becomes of the configured weights of one table: a factor for all, a percentage for each destination. Pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from lvs_dr.core.destinations import Place
from lvs_dr.core.kernel import DestinationConfig, ServiceKey
from lvs_dr.core.load_feedback import WHOLE, effective


class TableFactors(Struct, frozen=True):
    """Slow start and load in numbers. Percentages of destinations that are not listed are 100; 0: no connections.

    `scale` multiplies all weights of the table alike, so that percentages of small ones make a difference.
    """

    scale: int = 1
    percents: Mapping[ServiceKey, Mapping[Place, int]] = {}

    def applied(self, service: ServiceKey, group: Mapping[Place, DestinationConfig]) -> dict[Place, DestinationConfig]:
        """Return destinations of one service with the weights that the kernel is to have."""
        percents = self.percents.get(service, {})
        return {place: self._applied(config, percents.get(place, WHOLE)) for place, config in group.items()}

    def _applied(self, config: DestinationConfig, percent: int) -> DestinationConfig:
        weight = effective(config.weight, self.scale, percent) if percent else 0
        return config if weight == config.weight else config._replace(weight=weight)


FactorView = Mapping[str, TableFactors]
"""By table, only those whose weights change by themselves; a new object when something changes."""

NO_FACTORS: Final[FactorView] = MappingProxyType({})
