"""What applications say of their load, as numbers: HAProxy's agent-check, plain text, JSON, Prometheus. Pure.

Sources: HAProxy's configuration manual (agent-check), RFC 6901, Prometheus' text exposition format.
"""

import json
import math
import re
from typing import Final, NamedTuple

MOST_LINE: Final = 1024  # bytes of an agent-check's answer
_OUT: Final = frozenset({"drain", "maint", "down", "fail", "failed", "stopped"})
_PERCENT: Final = re.compile(r"([0-9]{1,3})%")
_WORDS: Final = frozenset({"up", "ready"}) | _OUT
_SHOWN: Final = 40
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_SELECTOR: Final = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?", re.DOTALL)
_LABEL: Final = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
_SAMPLE: Final = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?[ \t]+([^ \t]+)(?:[ \t]+-?[0-9]+)?[ \t]*")


class AnswerError(Exception):
    """The answer is not what was asked for. The text is for people."""


class Saying(NamedTuple):
    """What a real server says. `out`: the word by which it asks for no new connections; "" = none."""

    number: float  # its load; of an agent-check: the percent of its weight
    out: str = ""


def agent_check(heard: bytes) -> Saying:
    """Read `up 75%`, `drain`, `down # reason` and the like. Raises AnswerError.

    A percentage sets the share of the weight; `maxconn:` and words that nobody here knows are passed over, as HAProxy
    does. Without a percentage the whole weight is meant.
    """
    line = heard.partition(b"\n")[0].decode("ascii", "replace").partition("#")[0].strip().lower()
    words = [each for each in re.split(r"[ \t,\r]+", line) if each]
    number: float | None = None
    state = ""
    for each in words:
        found = _PERCENT.fullmatch(each)
        if found is not None:
            number = float(found[1])
        elif each in _WORDS:
            state = each
    if number is None and not state:
        raise AnswerError(f"answered {_shown(line)}, which has neither a percentage nor a state")
    return Saying(100.0 if number is None else number, state if state in _OUT else "")


def plain(body: bytes) -> Saying:
    """Read a number that stands alone. Raises AnswerError."""
    return Saying(_number(body.decode("utf-8", "replace").strip()))


def pointed(body: bytes, pointer: str) -> Saying:
    """Read the number at a JSON pointer. Raises AnswerError."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise AnswerError(f"the answer is no JSON: {_shown(body.decode('utf-8', 'replace'))}") from error
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif isinstance(found, list) and _INDEX.fullmatch(name) and int(name) < len(found):
            found = found[int(name)]
        else:
            raise AnswerError(f"the answer has nothing at {pointer}")
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise AnswerError(f"what is at {pointer} is no number")
    return Saying(_checked(found, str(found)))


def prometheus(body: bytes, metric: str) -> Saying:
    """Return the sum of the series that a selector, `name` or `name{label="value"}`, chooses. Raises AnswerError."""
    asked = _SELECTOR.fullmatch(metric)
    if asked is None:
        raise AnswerError(f"{_shown(metric)} is no name of a metric")
    name, wanted = asked[1], _labels(asked[2] or "")
    total, seen = 0.0, False
    for line in body.decode("utf-8", "replace").splitlines():
        if not line.startswith(name):
            continue
        found = _SAMPLE.fullmatch(line)
        if found is None or found[1] != name or not wanted.items() <= _labels(found[2] or "").items():
            continue
        total, seen = total + _number(found[3]), True
    if not seen:
        raise AnswerError(f"the page has no {metric}")
    return Saying(total)


def _labels(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        label = _LABEL.match(text, at)
        if label is None:
            raise AnswerError(f"the labels {_shown(text)} cannot be read")
        found[label[1]] = label[2]
        at = label.end()
    return found


def _number(text: str) -> float:
    try:
        return _checked(float(text), text)
    except ValueError as error:
        raise AnswerError(f"answered {_shown(text)}, which is no number") from error


def _checked(number: float, text: str) -> float:
    try:
        found = float(number)
    except OverflowError as error:
        raise AnswerError(f"answered {_shown(text)}, which is too large") from error
    if not math.isfinite(found) or found < 0:
        raise AnswerError(f"answered {_shown(text)}: a load is finite and not negative")
    return found


def _shown(text: str) -> str:
    short = "".join(each if each.isprintable() else "." for each in text[:_SHOWN])
    return f"'{short}{'…' if len(text) > _SHOWN else ''}'"
