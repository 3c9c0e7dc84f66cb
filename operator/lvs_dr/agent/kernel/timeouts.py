"""IPVS's timeouts, which the whole network namespace shares."""

import errno
import time
from collections.abc import Callable

from lvs_dr.agent.kernel.errors import timeout_failure
from lvs_dr.agent.kernel.family import Family
from lvs_dr.core.kernel import Failure, TimeoutKey, TimeoutOp
from lvs_dr.core.reasons import Reason
from lvs_dr.core.settings import TCP, TCP_FIN, UDP
from lvs_dr.netlink.errors import NetlinkError, NetlinkFailure, UnencodableValue
from lvs_dr.netlink.ipvs import FAMILY_NAME
from lvs_dr.netlink.ipvs_config import Timeouts, get_config, parse_config, set_config
from lvs_dr.netlink.socket import GenericNetlinkSocket


class IpvsTimeouts:
    """Reads and writes the timeouts. One thread at a time; a socket of its own, since writes are rare."""

    def __init__(
        self,
        open_socket: Callable[[], GenericNetlinkSocket] = lambda: GenericNetlinkSocket(FAMILY_NAME),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._family = Family(open_socket, clock)

    def read(self) -> dict[TimeoutKey, int]:
        """Return the timeouts in seconds; none on a kernel without IPVS. Raises KernelError."""
        found = self._family.ask(lambda socket: parse_config(socket.request(get_config())), "the timeouts of IPVS")
        if found is None:
            return {}
        return {key: seconds for key, seconds in zip((TCP, TCP_FIN, UDP), found, strict=True) if seconds}

    def apply(self, op: TimeoutOp) -> Failure | None:
        """Set one timeout; the others stay as they are."""
        values = {key: op.seconds if key == op.key else 0 for key in (TCP, TCP_FIN, UDP)}
        try:
            socket = self._family.socket()
            if socket is None:
                return timeout_failure(op, errno.ENOENT)
            refused = socket.transact([set_config(Timeouts(*values.values()))])
        except UnencodableValue:
            return timeout_failure(op, errno.EINVAL)
        except NetlinkError as error:
            return timeout_failure(op, error.code)
        except NetlinkFailure as error:
            self._family.failed(error)
            return Failure(op, errno.EIO, Reason.KERNEL_REFUSED, f"IPVS did not answer: {error}")
        return timeout_failure(op, refused[0].code) if refused else None

    def close(self) -> None:
        """Close the socket."""
        self._family.close()
