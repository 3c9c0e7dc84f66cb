"""`make bench SECTION=...`: run the named sections (all without a name) and print one table each.

python -m tests.bench [SECTION ...] [--quick]
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import failover, health, ipvs, ipvs_api, latency, survival, uploads
from tests.bench.figures import Figure, save, table

SECTIONS: dict[str, Callable[[bool, Callable[[str], None]], list[Figure]]] = {
    "failover": failover.measure,
    "health": health.measure,
    "ipvs": ipvs.measure,
    "ipvs-api": ipvs_api.measure,
    "latency": latency.measure,
    "survival": survival.measure,
    "uploads": uploads.measure,
}
RESULTS = Path(__file__).parents[2] / "build" / "bench.json"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="make bench SECTION=")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="small counts: shows that it runs, not how fast it is")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.sections if name not in SECTIONS]:
        parser.error(f"there is no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    began = time.monotonic()

    def progress(text: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {text}", flush=True)

    for name in arguments.sections or SECTIONS:
        progress(f"section {name}" + (" (small counts: not a measurement)" if arguments.quick else ""))
        figures = SECTIONS[name](arguments.quick, progress)
        print(f"\n{table(figures)}\n")
        save(figures, RESULTS)
    progress(f"written to {RESULTS.relative_to(Path.cwd()) if RESULTS.is_relative_to(Path.cwd()) else RESULTS}")


if __name__ == "__main__":
    main()
