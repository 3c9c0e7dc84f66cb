"""The sync daemons of the fake kernel."""

import errno
from collections.abc import Mapping

from lvs_dr.agent.kernel.protocol import Interface
from lvs_dr.core.kernel import DaemonConfig, DaemonKey, DaemonOp, Verb


class FakeDaemons(dict[DaemonKey, DaemonConfig]):
    """The daemons that run; `bound`: the interface (index) each was started on."""

    def __init__(self) -> None:
        super().__init__()
        self.bound: dict[DaemonKey, int] = {}

    def carries(self, key: DaemonKey, links: Mapping[str, Interface]) -> bool:
        """Tell whether a daemon's interface is still the one that it was started on."""
        link = links.get(self[key].interface) if key in self else None
        return link is not None and link.index == self.bound[key]

    def apply(self, op: DaemonOp, links: Mapping[str, Interface]) -> int:
        """Start, stop, or start anew; return an errno, or 0."""
        there = self.pop(op.key, None) if op.verb is not Verb.ADD else self.get(op.key)
        if op.verb is Verb.DELETE:
            return 0 if there else errno.ESRCH
        if op.verb is Verb.ADD and there:
            return errno.EEXIST
        assert op.config is not None
        return self._start(op.key, op.config, links.get(op.config.interface))

    def _start(self, key: DaemonKey, config: DaemonConfig, link: Interface | None) -> int:
        if link is None:
            return errno.ENODEV
        six = ":" in config.group
        if not six and not any("." in address for address in link.addresses):
            return errno.EADDRNOTAVAIL
        longest = 65535 - (48 if six else 28)
        least = 1024 if key.state == "backup" else 1
        self[key] = config._replace(maximum_length=min(max(config.maximum_length, least), longest))
        self.bound[key] = link.index
        return 0
