"""Keeps asking for the loads that somebody needs: each node, and each application, once in its interval for all.

Every director asks by itself, Backup too, and the API server has no part in it.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

from lvs_dr.agent.load.answers import Saying
from lvs_dr.agent.load.asking import LoadUnknownError
from lvs_dr.agent.timetable import Timetable
from lvs_dr.core.load_spec import LoadQuestion
from lvs_dr.core.loads import ServerLoad, Sockets

log = logging.getLogger(__name__)

AT_ONCE: Final = 64  # questions under way
LONGEST_SECONDS: Final = 2.0  # for one answer
_LEVELS: Final = (Sockets.NONE, Sockets.COUNT, Sockets.BYTES)

Ask = Callable[[LoadQuestion, Sockets, float], Awaitable[ServerLoad | Saying]]
"""Asks once, for so many seconds at most. Raises LoadUnknownError."""


class Want(NamedTuple):
    """How often to ask, and how much of a node."""

    interval: float  # seconds
    sockets: Sockets = Sockets.NONE

    def joined(self, other: "Want | None") -> "Want":
        """Return what serves both."""
        if other is None:
            return self
        return Want(min(self.interval, other.interval), max(self.sockets, other.sockets, key=_LEVELS.index))


class Heard(NamedTuple):
    """The last answer. Times are seconds of the event loop's clock (monotonic)."""

    answer: ServerLoad | Saying
    at: float  # when it was true
    before: ServerLoad | None = None  # the report before, for rates


class LoadReader:
    """Asks what it was last told to. `heard` is called after every answer, and when they stop coming."""

    def __init__(self, ask: Ask, *, heard: Callable[[], None] = lambda: None) -> None:
        self._ask = ask
        self._news = heard
        self._wanted: dict[LoadQuestion, Want] = {}
        self._by: dict[str, Mapping[LoadQuestion, Want]] = {}
        self._heard: dict[LoadQuestion, Heard] = {}
        self._troubles: dict[LoadQuestion, str] = {}
        self._timetable = Timetable("a question for load", self._one)
        self.asked = 0
        self.unanswered = 0

    def want(self, who: str, wanted: Mapping[LoadQuestion, Want]) -> None:
        """Ask this for `who` (a part of the agent) from now on; equal questions of several are asked once."""
        if self._by.get(who, {}) == wanted:
            return
        self._by[who] = dict(wanted)
        merged: dict[LoadQuestion, Want] = {}
        for each in self._by.values():
            for question, want in each.items():
                merged[question] = want.joined(merged.get(question))
        self._wanted = merged
        for gone in self._timetable.entries - merged.keys():
            self._timetable.drop(gone)
            self._heard.pop(gone, None)
            self._troubles.pop(gone, None)
        now = asyncio.get_running_loop().time()
        for question in merged.keys() - self._timetable.entries:
            self._timetable.schedule(question, now)

    def heard(self, question: LoadQuestion) -> Heard | None:
        """Return the last answer; None before the first."""
        return self._heard.get(question)

    def trouble(self, question: LoadQuestion) -> str:
        """Return why the last question had no answer; "" when it had."""
        return self._troubles.get(question, "")

    async def run(self) -> None:
        """Ask until cancelled."""
        await self._timetable.run(AT_ONCE)

    async def _one(self, question: LoadQuestion, ticket: int, _due: float) -> None:
        """Ask once, and schedule the next question from the start of this one."""
        loop = asyncio.get_running_loop()
        want = self._wanted[question] if question in self._wanted else Want(1.0)
        began = loop.time()
        answer: ServerLoad | Saying | None = None
        trouble = ""
        self.asked += 1
        try:
            answer = await self._ask(question, want.sockets, min(LONGEST_SECONDS, want.interval))
        except LoadUnknownError as error:
            trouble = str(error)
        except Exception:
            trouble = "asking itself failed: see the agent's log"
            log.exception("asking %s for its load failed unexpectedly", question.address)
        if not self._timetable.is_wanted(question, ticket):
            return
        first = question not in self._heard and question not in self._troubles
        # Many may have been asked for the first time at once: the second time spreads them.
        self._timetable.schedule(
            question, max(loop.time(), began + want.interval * (random.random() if first else 1.0))
        )
        if answer is None:
            self._unanswered(question, trouble)
        else:
            self._answered(question, answer, began)

    def _answered(self, question: LoadQuestion, answer: ServerLoad | Saying, began: float) -> None:
        if self._troubles.pop(question, None) is not None:
            log.info("the load of %s is known again", question.address)
        before = self._heard.get(question)
        if isinstance(answer, ServerLoad):
            earlier = before.answer if before is not None and isinstance(before.answer, ServerLoad) else None
            self._heard[question] = Heard(answer, began - answer.age_milliseconds / 1000, earlier)
        else:
            self._heard[question] = Heard(answer, began)
        self._news()

    def _unanswered(self, question: LoadQuestion, trouble: str) -> None:
        self.unanswered += 1
        news = question not in self._troubles
        self._troubles[question] = trouble
        if news:
            log.warning("the load is not known: %s", trouble)
            self._news()
