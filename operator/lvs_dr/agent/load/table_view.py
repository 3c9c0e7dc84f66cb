"""One look at a table whose weights change by themselves: its health, and what the kernel has of it."""

from lvs_dr.core.health import Health, HealthView, check_key
from lvs_dr.core.ipvs_table import Served, served
from lvs_dr.core.kernel import KernelState
from lvs_dr.core.load_feedback import WHOLE, scale
from lvs_dr.core.table import DirectorTableSpec, TableDestination


class TableView:
    """One look at a table: its health, and what the kernel has of it. `fresh`: its weights did not change until now."""

    def __init__(
        self, table: DirectorTableSpec, health: HealthView, actual: KernelState, now: float, *, fresh: bool
    ) -> None:
        self.table = table
        self.now = now
        self.entries = (*table.destinations, *table.pending)
        self.services = served(table)
        self.scale = scale(entry.weight for entry in self.entries)
        self._health = health
        self._groups = {one.service: actual.destinations.group(one.service) for one in self.services}
        self._fresh = fresh

    def percent(self, entry: TableDestination, one: Served) -> int | None:
        """Return the percent of its weight that a destination has in the kernel; None: it gets no connections."""
        config = self._groups[one.service].get((entry.address, one.target_port))
        if config is None or config.weight == 0 or entry.weight == 0:
            return None
        return WHOLE if self._fresh else round(config.weight * WHOLE / (entry.weight * self.scale))

    def least(self, entry: TableDestination) -> int | None:
        """Return the smallest percent of its services; None where it gets no connections."""
        found = [each for one in self.services if (each := self.percent(entry, one)) is not None]
        return min(found, default=None)

    def serves(self, entry: TableDestination, one: Served, *, in_kernel: bool) -> bool:
        """Tell whether a destination gets connections, by its weight and its check."""
        check = self.table.health_check
        if entry.weight == 0:
            return False
        if check is None or one.check_port is None:
            return True
        verdict = self._health.get(check_key(self.table, entry, one.check_port, check), Health.UNKNOWN)
        return verdict is Health.UP or (verdict is Health.UNKNOWN and in_kernel)
