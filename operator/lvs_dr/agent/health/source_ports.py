"""Which source ports a check through a VIP must not use for a while.

IPVS finds a packet's connection by its addresses and ports before it looks for a service, so a port that was used
lately would lead to the real server of that time, whatever the mark. The kernel does not know: such sockets are
closed with a reset, and their ports are free at once.
"""

import time
from collections.abc import Callable
from typing import Final

SILENT_SECONDS: Final = 65.0
"""How long IPVS remembers a connection that it saw no answer to (SYN_RECV, 60 s: ip_vs_proto_tcp.c), and a little."""
RESET_SECONDS: Final = 12.0
"""The same after a reset (CLOSE, 10 s)."""
_SWEEP_SECONDS: Final = 10.0

Target = tuple[str, int]


class SourcePorts:
    """Remembers which mark a source port was used with, by the VIP and port asked."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._used: dict[Target, dict[int, tuple[int, float]]] = {}
        self._swept = clock()

    def take(self, target: Target, port: int, mark: int, seconds: float) -> bool:
        """Note a use; False where another mark's use was too recent."""
        now = self._clock()
        if now - self._swept > _SWEEP_SECONDS:
            self._sweep(now)
        ports = self._used.setdefault(target, {})
        before = ports.get(port)
        if before is not None and before[0] != mark and before[1] > now:
            return False
        ports[port] = (mark, now + seconds + SILENT_SECONDS)
        return True

    def reset(self, target: Target, port: int, mark: int, seconds: float) -> None:
        """Note that the connection ends with a reset, in so many seconds at the latest."""
        ports = self._used.get(target)
        if ports is not None:
            ports[port] = (mark, self._clock() + seconds + RESET_SECONDS)

    def _sweep(self, now: float) -> None:
        self._swept = now
        for target, ports in tuple(self._used.items()):
            left = {port: use for port, use in ports.items() if use[1] > now}
            if left:
                self._used[target] = left
            else:
                del self._used[target]
