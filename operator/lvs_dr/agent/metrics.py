"""Counters and gauges in Prometheus' text format: a dictionary, since the agent needs no more."""

from collections.abc import Callable


class Metrics:
    """All metrics of the process. A gauge may be a function, read when it is asked for."""

    def __init__(self) -> None:
        self._help: dict[str, tuple[str, str]] = {}
        self._values: dict[str, float] = {}
        self._functions: dict[str, Callable[[], float]] = {}

    def counter(self, name: str, text: str) -> Callable[[float], None]:
        """Declare a counter and return the function that adds to it."""
        self._help[name] = ("counter", text)
        self._values[name] = 0.0

        def add(amount: float = 1.0) -> None:
            self._values[name] += amount

        return add

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Declare a gauge that is read when it is asked for."""
        self._help[name] = ("gauge", text)
        self._functions[name] = read

    def value(self, name: str) -> float:
        """Return the value now."""
        return self._functions[name]() if name in self._functions else self._values[name]

    def text(self) -> str:
        """Return everything in the exposition format."""
        lines = []
        for name, (kind, text) in self._help.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {self.value(name):.10g}"]
        return "\n".join(lines) + "\n"
