"""The sync daemons of IPVS, of which a network namespace has one of each kind."""

import errno
import time
from collections.abc import Callable

from lvs_dr.agent.kernel.errors import daemon_failure
from lvs_dr.agent.kernel.family import Family
from lvs_dr.core.kernel import DaemonConfig, DaemonKey, DaemonOp, Failure, Verb
from lvs_dr.core.reasons import Reason
from lvs_dr.core.sync import BACKUP, MASTER
from lvs_dr.netlink.errors import NetlinkFailure, UnencodableValue
from lvs_dr.netlink.ipvs import FAMILY_NAME
from lvs_dr.netlink.ipvs_daemon import Daemon, DaemonState, delete_daemon, get_daemons, new_daemon, parse_daemons
from lvs_dr.netlink.socket import GenericNetlinkSocket

_STATES = {MASTER: DaemonState.MASTER, BACKUP: DaemonState.BACKUP}


class SyncDaemons:
    """Reads, starts and stops the daemons. One thread at a time; a socket of its own, since changes are rare."""

    def __init__(
        self,
        open_socket: Callable[[], GenericNetlinkSocket] = lambda: GenericNetlinkSocket(FAMILY_NAME),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._family = Family(open_socket, clock)

    def read(self) -> dict[DaemonKey, DaemonConfig]:
        """Return the daemons that run; none on a kernel without IPVS. Raises KernelError."""
        found = self._family.ask(lambda socket: parse_daemons(socket.dump(get_daemons())), "the sync daemons of IPVS")
        if found is None:
            return {}
        return {key: DaemonConfig(*found[state][1:]) for key, state in _STATES.items() if state in found}

    def apply(self, op: DaemonOp) -> Failure | None:
        """Start, stop, or start anew: then the old one is stopped first, whatever becomes of the new one."""
        state = _STATES[op.key]
        messages = [] if op.verb is Verb.ADD else [delete_daemon(state)]
        try:
            if op.config is not None and op.verb is not Verb.DELETE:
                messages.append(new_daemon(Daemon(state, *op.config)))
            else:
                # A thread that has not run yet is stopped with EINTR, which netlink does not answer (netlink_rcv_skb):
                # the second request is, by ESRCH.
                messages.append(delete_daemon(state))
            socket = self._family.socket()
            if socket is None:
                return daemon_failure(op, errno.ENOENT)
            refused = socket.transact(messages)
        except UnencodableValue:
            return daemon_failure(op, errno.EINVAL)
        except NetlinkFailure as error:
            self._family.failed(error)
            return Failure(op, errno.EIO, Reason.KERNEL_REFUSED, f"IPVS did not answer: {error}")
        last = refused.get(len(messages) - 1)  # that there was none to stop is no failure
        return daemon_failure(op, last.code) if last is not None else None

    def close(self) -> None:
        """Close the socket."""
        self._family.close()
