"""A wire for tests, on which some addresses are in use by others."""

from collections.abc import Callable, Collection, Mapping

from lvs_dr.agent.wire import WireError


class Segment:
    """Implements `agent.wire.Wire`."""

    def __init__(self) -> None:
        self.others: dict[str, set[str]] = {}  # address -> MACs
        self.down: set[str] = set()
        self.probed: list[str] = []
        self.while_probing: Callable[[], None] = lambda: None

    async def probe(self, interface: str, addresses: Collection[str]) -> Mapping[str, frozenset[str]]:
        """Tell who has them."""
        if interface in self.down:
            raise WireError(f"interface {interface}: Network is down")
        self.while_probing()
        self.probed += addresses
        return {address: frozenset(self.others[address]) for address in addresses if address in self.others}
