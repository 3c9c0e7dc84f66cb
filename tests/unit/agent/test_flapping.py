"""A thousand real servers that come and go: what the API server and the kernel have to bear."""

import json
import random
import time

from lvs_dr.agent.report import BYTES_PER_SECOND
from lvs_dr.core.health import CheckKey
from tests.unit.agent.bench import CHECK, DIRECTOR, Bench

SERVERS = 1000
LARGEST_BYTES = 64 * 1024


class Flapping(Bench):
    """Half of all checks fail."""

    async def check(self, key: CheckKey, _: str) -> str:
        """Stand in for a check of a service that crashes again and again."""
        self.checks.append(key[:2])
        return random.choice(("", "connection refused"))


async def test_a_thousand_that_flap_are_few_writes_of_bounded_size(bench: Bench) -> None:
    """One site's bad day would fill etcd, and take the API server from everybody else."""
    flapping = Flapping(bench.api, bench.directory)
    flapping.more = {"report_gap": 1.0}
    destinations = [
        {"realServer": f"storage-{n:04}", "address": f"198.51.{n // 250}.{n % 250 + 1}", "weight": 100}
        for n in range(SERVERS)
    ]
    async with flapping.running():
        await flapping.node(DIRECTOR)
        await flapping.table(destinations=destinations, healthCheck={**CHECK, "rise": 1, "fall": 1})
        await flapping.until(lambda: len(flapping.destinations()) > SERVERS // 4, seconds=20)
        began, before = time.monotonic(), len(bench.api.status_writes)
        await flapping.until(lambda: len(bench.api.status_writes) >= before + 4, seconds=20)
        took = time.monotonic() - began
        served = set(flapping.destinations())
        await flapping.until(lambda: set(flapping.destinations()) != served)
    assert took >= 2.9  # the first of the four may have been due
    sizes = [len(json.dumps(each)) for each in bench.api.status_writes]
    assert max(sizes) <= LARGEST_BYTES, sizes
    assert max(sizes) <= BYTES_PER_SECOND * 2
    (report,) = bench.api.status_writes[-1]["tables"]
    assert report["total"] == SERVERS
    assert 0 < report["healthy"] < SERVERS
    assert report["cut"]  # only some of the names fit, and it says so
