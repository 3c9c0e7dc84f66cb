"""Startup, readiness and liveness probes: what to ask (pure), how to count the answers (pure), and the asking."""

from dataclasses import dataclass
from typing import Any, Protocol

from lvs_lab.podfields import Refused, refuse_unknown, words

Object = dict[str, Any]
PROBE_KEYS = words(
    "httpGet tcpSocket exec initialDelaySeconds periodSeconds timeoutSeconds successThreshold failureThreshold "
    "terminationGracePeriodSeconds"
)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One probe; times in seconds."""

    kind: str
    host: str = ""
    """Empty: the pod's own address."""
    port: int = 0
    path: str = "/"
    command: tuple[str, ...] = ()
    initial_delay: float = 0
    period: float = 10
    timeout: float = 1
    successes: int = 1
    failures: int = 3
    grace_seconds: int | None = None

    @classmethod
    def parse(cls, where: str, container: Object, given: Object) -> "Probe":
        """Read a probe of a container. Raises Refused for gRPC, HTTPS and headers."""
        refuse_unknown(f"{where}: probe", given, PROBE_KEYS)
        kind = next((k for k in ("httpGet", "tcpSocket", "exec") if given.get(k)), "")
        if not kind:
            raise Refused(f"{where}: a probe without httpGet, tcpSocket or exec")
        action = given[kind]
        if action.get("scheme", "HTTP") != "HTTP" or action.get("httpHeaders"):
            raise Refused(f"{where}: probes by HTTPS or with headers are not stood in for")
        return cls(
            kind=kind,
            host=action.get("host") or "",
            port=named_port(where, container, action.get("port", 0)),
            path=action.get("path") or "/",
            command=tuple(action.get("command") or ()),
            initial_delay=given.get("initialDelaySeconds", 0),
            period=given.get("periodSeconds", 10),
            timeout=given.get("timeoutSeconds", 1),
            successes=given.get("successThreshold", 1),
            failures=given.get("failureThreshold", 3),
            grace_seconds=given.get("terminationGracePeriodSeconds"),
        )


def named_port(where: str, container: Object, port: int | str) -> int:
    """Return a port's number; a name is one of the container's ports."""
    if isinstance(port, int):
        return port
    for each in container.get("ports") or ():
        if each.get("name") == port:
            return int(each["containerPort"])
    raise Refused(f"{where}: a probe names port {port!r}, which the container does not have")


class Counter:
    """Turns single answers into a verdict, as thresholds say. `None` until there is one."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._last: bool | None = None
        self._run = 0
        self.verdict: bool | None = None

    def add(self, answer: bool) -> bool | None:  # noqa: FBT001 - the answer is the datum
        """Count an answer and return the verdict that now holds."""
        self._run = self._run + 1 if answer == self._last else 1
        self._last = answer
        if self._run >= (self._probe.successes if answer else self._probe.failures):
            self.verdict = answer
        return self.verdict


class Prober(Protocol):
    """What can be asked from a node: `lvs_lab.node.NodeHandle` is one."""

    async def http_get(self, port: int, path: str, timeout: float, host: str = ...) -> tuple[int, str]:  # noqa: ASYNC109
        """GET from the node; status (0: no answer) and body."""
        ...

    async def tcp_connect(self, port: int, timeout: float, host: str = ...) -> str:  # noqa: ASYNC109
        """Connect from the node; empty or the reason why not."""
        ...


async def ask(probe: Probe, prober: Prober, address: str) -> str:
    """Ask an httpGet or tcpSocket probe once; return an empty text for success, else the reason."""
    host = probe.host or address
    if probe.kind == "tcpSocket":
        return await prober.tcp_connect(probe.port, probe.timeout, host)
    status, body = await prober.http_get(probe.port, probe.path, probe.timeout, host)
    return "" if 200 <= status < 400 else f"HTTP {status}: {body[:200]}" if status else body
