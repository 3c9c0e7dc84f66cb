"""The listeners of the process: sockets that the agent gave, what is to be served on them, and their connections."""

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from lvs_dr.redirect.acceptor import Acceptor
from lvs_dr.redirect.exchange import Exchange
from lvs_dr.redirect.messages import Listener, Load, Report, State
from lvs_dr.redirect.service import RedirectService, Tally
from lvs_dr.redirect.tls import Certificate, UnusableCertificate

log = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 0.25
CERTIFICATE_SECONDS: Final = 5.0  # between two looks at certificate files


class Listening:
    """One listener: a socket, a service, and what accepts connections when there are both."""

    def __init__(self, service: RedirectService) -> None:
        self.service = service
        self.certificate: Certificate | None = None
        self.acceptor: Acceptor | None = None
        self.problem = ""
        self.admitting: set[asyncio.Task[None]] = set()  # of acceptors that have stopped

    def admits(self) -> bool:
        """Whether there are connections that are accepted and no exchange yet."""
        self.admitting = {task for task in self.admitting if not task.done()}
        return bool(self.admitting) or (self.acceptor is not None and bool(self.acceptor.admitting))

    def stop(self) -> None:
        """Accept no more. Whoever else has the socket goes on queueing connections."""
        if self.acceptor is not None:
            self.acceptor.stop()
            self.admitting |= self.acceptor.admitting
            self.acceptor = None


class Listeners:
    """All listeners. `apply` a state and `give` sockets in any order."""

    def __init__(
        self,
        *,
        tally: Tally,
        uniform: Callable[[], float],
        wall: Callable[[], float],
        most_connections: int,
    ) -> None:
        self._tally = tally
        self._uniform = uniform
        self._wall = wall
        self._most = most_connections
        self._clock = asyncio.get_running_loop().time
        self._listening: dict[str, Listening] = {}
        self._sockets: dict[str, socket.socket] = {}
        self._certificates_at = 0.0
        self.exchanges: set[Exchange] = set()
        self.revision = 0

    @property
    def sockets(self) -> Mapping[str, socket.socket]:
        """The listening sockets by key."""
        return self._sockets

    def give(self, key: str, listening: socket.socket) -> None:
        """Take a listening socket; one that we have already is replaced, and its queue is still served until then."""
        old = self._sockets.pop(key, None)
        known = self._listening.get(key)
        if known is not None:
            known.stop()
        if old is not None:
            old.close()
        listening.setblocking(False)
        self._sockets[key] = listening
        if known is not None:
            self._start(known)

    def apply(self, state: State) -> None:
        """Serve what the state says, and nothing else."""
        wanted = {listener.key: listener for listener in state.listeners}
        for key in self._listening.keys() - wanted.keys():
            self._listening.pop(key).stop()
            log.info("%s is no longer served", key)
        for key in self._sockets.keys() - wanted.keys():
            self._sockets.pop(key).close()
        for key, listener in wanted.items():
            self._apply_one(key, listener)
        self.revision = state.revision

    def _apply_one(self, key: str, listener: Listener) -> None:
        known = self._listening.get(key)
        if known is None:
            service = RedirectService(listener, tally=self._tally, uniform=self._uniform, wall=self._wall)
            known = self._listening[key] = Listening(service)
            log.info("%s is served for %s", key, listener.service)
        else:
            before, plain = known.service.listener, known.certificate is None
            known.service.configure(listener)
            if plain != (listener.tls is None):
                known.stop()  # from http to https, or back: connections that are open stay what they are
            elif before.tls == listener.tls and not known.problem:
                return
        self._set_certificate(known, listener)
        if known.acceptor is None:
            self._start(known)

    def _set_certificate(self, known: Listening, listener: Listener) -> None:
        known.problem = ""
        if listener.tls is None:
            known.certificate = None
            return
        try:
            if known.certificate is None:
                known.certificate = Certificate(listener.tls)
            else:
                known.certificate.load(listener.tls)
        except UnusableCertificate as error:
            known.problem = str(error)
            log.warning("%s: %s", listener.key, error)

    def _start(self, known: Listening) -> None:
        """Accept connections, if there is all that it takes."""
        listener = known.service.listener
        found = self._sockets.get(listener.key)
        if found is None or (listener.tls is not None and known.certificate is None):
            return
        known.acceptor = Acceptor(
            found,
            lambda: Exchange(known.service, self.exchanges, self._clock, most=self._most),
            known.certificate.context if known.certificate is not None else None,
        )

    def loads(self, reports: Sequence[Load]) -> None:
        """Take what real servers report."""
        by_place = {(load.address, load.port): load for load in reports}
        now = self._clock()
        for known in self._listening.values():
            known.service.loads(by_place, now)

    def missing(self) -> str:
        """Name what a listener waits for; "" when all accept connections."""
        waiting = [key for key, known in self._listening.items() if known.acceptor is None]
        if not waiting:
            return ""
        return f"{len(waiting)} of {len(self._listening)} listeners do not accept: {', '.join(waiting[:5])}"

    def report(self) -> Report:
        """Return what all listeners have done."""
        now = self._clock()
        return Report(
            revision=self.revision,
            listeners=tuple(
                known.service.report(now, known.problem or ("" if key in self._sockets else "there is no socket yet"))
                for key, known in self._listening.items()
            ),
        )

    async def look_after(self) -> None:
        """End connections that have had their time, and load changed certificates; for ever."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self._clock()
            for exchange in tuple(self.exchanges):
                exchange.sweep(now)
            if now >= self._certificates_at:
                self._certificates_at = now + CERTIFICATE_SECONDS
                self.refresh_certificates()

    def refresh_certificates(self) -> None:
        """Load certificate files that have changed."""
        for key, known in self._listening.items():
            if known.certificate is None:
                continue
            try:
                if known.certificate.refresh():
                    known.problem = ""
                    log.info("%s: the certificate was loaded anew", key)
            except UnusableCertificate as error:
                known.problem = str(error)
                log.warning("%s: %s; the last one is still used", key, error)

    async def drain(self, seconds: float) -> None:
        """Accept no more, answer what is asked, end the rest after `seconds`."""
        for known in self._listening.values():
            known.service.draining = True
            known.stop()
        end = self._clock() + seconds
        idle_end = self._clock() + min(1.0, seconds / 2)
        while self._busy() and self._clock() < end:
            if self._clock() >= idle_end:
                for exchange in tuple(self.exchanges):
                    exchange.stop(at_once=False)
            for exchange in tuple(self.exchanges):
                exchange.sweep(self._clock())
            await asyncio.sleep(0.02)
        for exchange in tuple(self.exchanges):
            exchange.stop(at_once=True)
        await asyncio.sleep(0)

    def _busy(self) -> bool:
        return bool(self.exchanges) or any(known.admits() for known in self._listening.values())

    def close(self) -> None:
        """Close our copies of the sockets."""
        for known in self._listening.values():
            known.stop()
        for one in self._sockets.values():
            one.close()
        self._sockets.clear()
