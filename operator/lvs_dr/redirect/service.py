"""What one listener answers: its settings, its real servers, what it has counted. No I/O; the time is an argument."""

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate
from typing import Final, NamedTuple

from lvs_dr.core.redirect import NEVER_REDIRECTED, SAFE_CACHE_CONTROL, Algorithm
from lvs_dr.redirect import answers, location, verify
from lvs_dr.redirect.algorithms import Asked, Candidate, chooser
from lvs_dr.redirect.answers import Refusal
from lvs_dr.redirect.estimator import Estimator
from lvs_dr.redirect.messages import Listener, ListenerReport, Load, TargetCounts, TargetState, Token

SORRY: Final = "sorry server"
"""The target in metrics when the sorry server got a request."""

_LOOKS_AT_LOAD: Final = frozenset(Algorithm) - {Algorithm.RR, Algorithm.WRR, Algorithm.SH, Algorithm.DH, Algorithm.MH}


class Request(NamedTuple):
    """What a decision needs of a request. `client`: packed address; `size`: bytes of the body, None: not announced."""

    method: str
    target: bytes
    client: bytes = b""
    size: int | None = 0


class Goal(NamedTuple):
    """Where a redirect leads: what stands before the path, and the Host that a client will send there."""

    name: str
    head: bytes
    authority: bytes


class Tally(NamedTuple):
    """What is told to whoever keeps the metrics, when it happens."""

    redirected: Callable[[str, str, int], None]  # service, target, code
    refused: Callable[[str, Refusal], None]
    discarded: Callable[[str, int], None]
    bypassed: Callable[[str, str, int], None]  # service, target, bytes that a real server says it received


class Dates:
    """The value of Date, made once a second."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._second = -1
        self._text = b""

    def now(self) -> tuple[int, bytes]:
        """Return seconds since 1970, and the header's text."""
        second = int(self._wall())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True).encode()
        return second, self._text


class RedirectService:
    """One listener's decisions. `configure` may come at any time; loads and turns are kept over it."""

    def __init__(
        self, listener: Listener, *, tally: Tally, uniform: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self._tally = tally
        self._uniform = uniform
        self._dates = Dates(wall)
        self.listener = listener
        self.problem = ""
        self.draining = False  # every answer ends its connection
        self.connections = 0
        self._given: dict[str, int] = {}
        self._refused: dict[str, int] = {}
        self._discarded = 0
        self._chooser = chooser(listener.settings.algorithm, uniform)
        self._estimator = Estimator()
        self._candidates: list[Candidate] = []
        self._goals: dict[str, Goal] = {}
        self._sorry: Goal | None = None
        self._key = b""
        self._by_address: dict[tuple[str, int], str] = {}
        self._tail = self._sorry_tail = b""
        self.configure(listener)

    def configure(self, listener: Listener) -> None:
        """Take new settings and real servers; one that cannot be named in a URL is left out and told in `problem`."""
        settings, before = listener.settings, self.listener.settings
        if settings.algorithm is not before.algorithm:
            self._chooser = chooser(settings.algorithm, self._uniform)
        self.listener = listener
        self._estimator.window_seconds = settings.load_window_seconds
        self._estimator.stale_seconds = settings.load_stale_seconds
        self._estimator.keep(each.name for each in listener.targets)
        self._given = {each.name: self._given.get(each.name, 0) for each in listener.targets}
        self._tail = answers.redirect_tail(settings.cache_control or SAFE_CACHE_CONTROL)
        self._sorry_tail = answers.redirect_tail(SAFE_CACHE_CONTROL)
        self._allow = answers.allowed(settings.methods)
        self._methods = frozenset(settings.methods)
        self._looks_at_load = settings.algorithm in _LOOKS_AT_LOAD or settings.maximum_in_flight_per_server > 0
        problems = list(self._set_targets(listener))
        self._sorry = self._sorry_goal(listener, problems)
        try:
            self._key = self._signing_key(settings.token, before.token)
        except ValueError as error:
            self._key = b""
            problems.append(f"no request is redirected, for tokens cannot be made: {error}")
            self._candidates = []
        self.problem = "; ".join(problems)[:2000]

    def _signing_key(self, token: Token | None, before: Token | None) -> bytes:
        """Return the key that signs, none without tokens. Raises ValueError if there is none that can."""
        if token is None:
            return b""
        if not token.key and self._key and before is not None and before.key_id == token.key_id:
            return self._key
        return verify.read_key(token.key)

    def _set_targets(self, listener: Listener) -> Iterable[str]:
        settings = listener.settings
        port = settings.port or listener.port
        known = {one.name: one for one in self._candidates}
        self._candidates, self._goals, self._by_address = [], {}, {}
        for target in listener.targets:
            try:
                host = location.host_name(settings.host, target)
            except location.UnusableHost as error:
                yield f"{target.name} gets no requests: {error}"
                continue
            self._by_address[target.address, port] = target.name
            self._goals[target.name] = _goal(target.name, settings.status_code, settings.scheme, host, port)
            if target.weight > 0 and target.state is TargetState.IN_SERVICE:
                one = known.get(target.name) or Candidate(target.name, target.weight)
                one.weight, one.address, one.full = target.weight, target.address, False
                self._candidates.append(one)

    @staticmethod
    def _sorry_goal(listener: Listener, problems: list[str]) -> Goal | None:
        sorry = listener.sorry_server
        if sorry is None:
            return None
        try:
            host = location.checked_host(sorry.host)
        except location.UnusableHost as error:
            problems.append(f"the sorry server is not used: {error}")
            return None
        return _goal(SORRY, 307, sorry.scheme, host, sorry.port)

    def answer(self, request: Request, now: float, *, close: bool) -> tuple[bytes, bool]:
        """Return the answer to a request, and whether the connection ends with it: as `close` says, or after a 400.

        `now`: monotonic seconds.
        """
        method, settings = request.method, self.listener.settings
        wall, date = self._dates.now()
        if method in NEVER_REDIRECTED or (settings.methods and method not in self._methods):
            return self._refuse(Refusal.METHOD, date, method, close=close, allow=self._allow), close
        if request.target == b"*" and method == "OPTIONS":
            return answers.options_of_server(date, self._allow, close=close), close
        try:
            path = location.request_path(request.target, keep_query=settings.keep_query)
        except location.NotRedirectable:
            return self._refuse(Refusal.TARGET, date, method, close=True), True
        chosen = self._choose(request, path, now)
        if chosen is None:
            if self._sorry is None:
                wait = settings.retry_after_seconds
                return self._refuse(Refusal.NO_TARGET, date, method, close=close, retry_after=wait), close
            goal, tail, code = self._sorry, self._sorry_tail, 307
        else:
            goal, tail, code = self._goals[chosen.name], self._tail, settings.status_code
            self._given[chosen.name] += 1
            self._estimator.redirected(chosen.name, now, request.size)
            if settings.token is not None:
                path = verify.signed(
                    self._key,
                    settings.token.key_id.encode(),
                    method=method.encode(),
                    host=goal.authority,
                    path=path,
                    expiry=wall + settings.token.lifetime_seconds,
                )
        self._tally.redirected(self.listener.service, goal.name, code)
        return b"".join((goal.head, path, tail, answers.last_lines(date, close=close))), close

    def _choose(self, request: Request, path: bytes, now: float) -> Candidate | None:
        if self._looks_at_load:
            most, estimator = self.listener.settings.maximum_in_flight_per_server, self._estimator
            for one in self._candidates:
                one.in_flight = estimator.in_flight(one.name, now)
                one.backlog = estimator.backlog(one.name, now)
                one.full = bool(most) and one.in_flight >= most
        size = self._estimator.expected_size if request.size is None else request.size
        asked = Asked(request.client, path.partition(b"?")[0], now, size)
        return self._chooser.choose(self._candidates, asked)

    def _refuse(
        self, why: Refusal, date: bytes, method: str, *, close: bool, allow: str = "", retry_after: int = 0
    ) -> bytes:
        self.count_refused(why)
        return answers.refusal(why, date, close=close, head_only=method == "HEAD", allow=allow, retry_after=retry_after)

    def refuse(self, why: Refusal, method: str = "") -> bytes:
        """Return the answer to a request that is not understood; it ends the connection."""
        retry = self.listener.settings.retry_after_seconds if why is Refusal.TOO_MANY_CONNECTIONS else 0
        return self._refuse(why, self._dates.now()[1], method, close=True, retry_after=retry)

    def count_refused(self, why: Refusal) -> None:
        """Count a refusal."""
        self._refused[why.value] = self._refused.get(why.value, 0) + 1
        self._tally.refused(self.listener.service, why)

    def discarded(self, size: int) -> None:
        """Count bytes of bodies that were read and thrown away."""
        self._discarded += size
        self._tally.discarded(self.listener.service, size)

    def loads(self, reports: Mapping[tuple[str, int], Load], now: float) -> None:
        """Take what real servers report, by address and port."""
        for place, name in self._by_address.items():
            load = reports.get(place)
            if load is not None:
                received = self._estimator.reported(
                    name, now - load.age_seconds, established=load.established, inbound_bytes=load.inbound_bytes
                )
                self._tally.bypassed(self.listener.service, name, received)

    def report(self, now: float, problem: str = "") -> ListenerReport:
        """Return what this listener has done; `problem`: what else is wrong with it."""
        return ListenerReport(
            key=self.listener.key,
            service=self.listener.service,
            connections=self.connections,
            targets=tuple(
                TargetCounts(name, count, self._estimator.in_flight(name, now)) for name, count in self._given.items()
            ),
            refused=dict(self._refused),
            discarded_bytes=self._discarded,
            problem="; ".join(part for part in (problem, self.problem) if part),
        )


def _goal(name: str, status: int, scheme: str, host: str, port: int) -> Goal:
    authority = location.authority(scheme, host, port)
    return Goal(name, answers.redirect_head(status, f"{scheme}://{authority}"), authority.encode("ascii"))


def packed(address: str) -> bytes:
    """Return an address as bytes; none for what is no address (a Unix socket in tests)."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).packed
    except ValueError:
        return b""
