"""Readiness: that everything that should run does and nothing is stuck. A replica that waits for the Lease is ready."""

from collections.abc import Callable


class Readiness:
    """Named problems; none means ready."""

    def __init__(self) -> None:
        self._problems: dict[str, str] = {}
        self._checks: list[Callable[[], str]] = []

    def report(self, name: str, problem: str) -> None:
        """Set or clear ("") what is wrong with a part."""
        if problem:
            self._problems[name] = problem
        else:
            self._problems.pop(name, None)

    def check(self, question: Callable[[], str]) -> None:
        """Register a question that is asked whenever somebody looks."""
        self._checks.append(question)

    def problems(self) -> list[str]:
        """Return everything that is wrong."""
        answers = [f"{name}: {problem}" for name, problem in sorted(self._problems.items())]
        return answers + [answer for check in self._checks if (answer := check())]

    def text(self) -> str:
        """Return everything that is wrong, one a line; "" if nothing is."""
        return "\n".join(self.problems())
