"""Which of the node's own addresses a health check is made from."""

from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network

from lvs_dr.agent.health.attempt import CannotCheckError
from lvs_dr.core.health import CheckKey


class SourceAddresses:
    """Chooses among the addresses of the node, as they were given last."""

    def __init__(self) -> None:
        self._own: tuple[str, ...] = ()
        self._facing: tuple[IPv4Interface | IPv6Interface, ...] = ()
        self._chosen: dict[tuple[str, bool], str] = {}

    def use(self, own: tuple[str, ...], facing: tuple[str, ...]) -> None:
        """Choose among these from now on (with prefix length); `facing` are on the director's interface."""
        if own != self._own:
            self._own = own
            self._chosen.clear()
        if facing != tuple(str(each) for each in self._facing):
            self._facing = tuple(ip_interface(each) for each in facing)
            self._chosen.clear()

    def source(self, key: CheckKey) -> str:
        """Return the address that a check comes from, "" = any. Raises CannotCheckError when there is none."""
        source = self.past_the_vip(key)
        return self._facing_source(key.address, source) if key.mark else source

    def past_the_vip(self, key: CheckKey) -> str:
        """Return the same for asking a real server on its own address. Raises CannotCheckError."""
        network = key.check.source_network
        return self._inside(network, v6=":" in key.address) if network else ""

    def _inside(self, network: str, *, v6: bool) -> str:
        """Return the own address in a network. Raises CannotCheckError when there is none."""
        found = self._chosen.get((network, v6))
        if found is None:
            inside = ip_network(network)
            own = (ip_interface(each).ip for each in self._own)
            found = self._chosen[(network, v6)] = next((str(each) for each in own if each in inside), "")
        if not found or ip_address(found).version != (6 if v6 else 4):
            raise CannotCheckError(f"this director has no address in {network} (sourceNetwork) to ask from")
        return found

    def _facing_source(self, real_server: str, wished: str) -> str:
        """Return the address that checks of a real server through a VIP come from. Raises CannotCheckError.

        Left to the kernel, the Active director would ask from the VIP itself.
        """
        if wished:
            if all(str(each.ip) != wished for each in self._facing):
                raise CannotCheckError("sourceNetwork must be one of the director's interface for checks of the VIP")
            return wished
        v6 = ":" in real_server
        found = self._chosen.get((real_server, v6))
        if found is None:
            own = [each for each in self._facing if (each.version == 6) == v6]  # noqa: PLR2004 - an IP version
            near = (each for each in own if ip_address(real_server) in each.network)
            chosen = next(near, own[0] if own else None)
            found = self._chosen[real_server, v6] = str(chosen.ip) if chosen is not None else ""
        if not found:
            raise CannotCheckError("the director's interface has no address of its own to ask from")
        return found
