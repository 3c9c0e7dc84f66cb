"""Figures: one table on the screen, the same as JSON."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One measured figure: `value` is the median of `n` samples unless its name says otherwise (p50, p99)."""

    section: str
    name: str
    value: float
    unit: str
    aim: str
    min: float
    max: float
    n: int


def quantile(samples: Sequence[float], part: float) -> float:
    """Return the sample below which `part` of all samples lie (nearest rank)."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, max(0, round(part * len(ordered) + 0.5) - 1))]


def figure(section: str, name: str, samples: Sequence[float], unit: str, *, aim: str = "", part: float = 0.5) -> Figure:
    """Make a figure of samples: the median, or another quantile."""
    value = statistics.median(samples) if part == 0.5 else quantile(samples, part)
    return Figure(
        section, name, round(value, 2), unit, aim, round(min(samples), 2), round(max(samples), 2), len(samples)
    )


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as text in columns."""
    rows = [("figure", "unit", "aim", "value", "min", "max", "n")]
    rows += [(f.name, f.unit, f.aim, f"{f.value:g}", f"{f.min:g}", f"{f.max:g}", str(f.n)) for f in figures]
    return columns(rows)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text in columns; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def save(figures: Sequence[Figure], path: Path) -> None:
    """Write the figures as JSON; sections that were not measured now keep what the file had."""
    measured = {item.section for item in figures}
    kept = [item for item in json.loads(path.read_text()) if item["section"] not in measured] if path.exists() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept + [asdict(item) for item in figures], indent=1) + "\n")
