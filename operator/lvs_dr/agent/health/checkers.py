"""One check of any kind: its time limit, and its errors in words."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from lvs_dr.agent.health import dns, grpc, http, tcp, udp
from lvs_dr.agent.health.attempt import Attempt, CannotCheckError, explained
from lvs_dr.agent.health.certificates import ReadSecret, identity
from lvs_dr.agent.health.connection import CheckFailedError
from lvs_dr.agent.health.deadline import Deadline, StolenTime
from lvs_dr.agent.health.ping import Pinger
from lvs_dr.agent.health.script import Scripts
from lvs_dr.agent.health.source_ports import SourcePorts
from lvs_dr.core.checks import DnsCheck, ExecCheck, GrpcCheck, HttpCheck, PingCheck, TcpCheck, UdpCheck
from lvs_dr.core.health import CheckKey

TOO_BUSY: Final = "the director is too busy: its agent does not get its turn in time to see answers"
SCRIPTS: Final = Path("/etc/lvs-operator/check-scripts")


class Checkers:
    """Makes checks. `scripts` is the directory of those that exec checks name, `secret` returns what Secrets hold."""

    def __init__(self, scripts: Path = SCRIPTS, secret: ReadSecret | None = None) -> None:
        self._secret = secret
        self._stolen = StolenTime()
        self._pinger = Pinger()
        self._scripts = Scripts(scripts)
        self._ports = SourcePorts()
        self.asked: Callable[[CheckKey], None] = lambda _: None
        """Told of each check whose packets leave with a mark."""
        self.hops: Callable[[CheckKey], int] = lambda _: 0
        """Says how many hops the packets of such a check may take; 0: as many as usual."""

    async def __call__(self, key: CheckKey, source: str = "") -> str:
        """Check once. Returns "" on success, else what went wrong, for people. Raises CannotCheckError.

        `source`: own address to ask from; empty: any.
        """
        attempt = Attempt(key.vip or key.address, key.port, float(key.check.timeout_seconds), source)
        if name := key.check.secret:
            attempt.identity = identity(self._secret, name)
        if key.mark:
            attempt.mark, attempt.hops, attempt.ports = key.mark, self.hops(key), self._ports
            attempt.sent = lambda: self.asked(key)
        deadline = Deadline(attempt.timeout, self._stolen)
        try:
            async with deadline:
                return await self._kind(attempt, key)
        except TimeoutError as error:  # ours, or the kernel's ETIMEDOUT: the same to the reader
            if deadline.starved:
                raise CannotCheckError(TOO_BUSY) from error
            return attempt.too_slow
        except CheckFailedError as error:
            return str(error)
        except OSError as error:
            return explained(error)

    async def _kind(self, attempt: Attempt, key: CheckKey) -> str:  # noqa: PLR0911 - one line for each kind
        match key.check.probe:
            case TcpCheck() as probe:
                return await tcp.check(attempt, probe)
            case HttpCheck() as probe:
                return await http.check(attempt, probe)
            case DnsCheck() as probe:
                return await dns.check(attempt, probe)
            case UdpCheck() as probe:
                return await udp.check(attempt, probe)
            case PingCheck() as probe:
                return await self._pinger.check(attempt, probe)
            case GrpcCheck() as probe:
                return await grpc.check(attempt, probe)
            case ExecCheck() as probe:
                return await self._scripts.check(attempt, probe)
        raise CannotCheckError("this agent does not know this kind of check: upgrade the agents")

    def close(self) -> None:
        """Close what checks share."""
        self._pinger.close()
