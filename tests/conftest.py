"""The lab for all tiers, and the rule for what is missing.

Plain `pytest` is green on any machine: tests whose tools or rights are missing are skipped, and say what to do.
`make test` sets LVS_REQUIRE_ALL=1: then nothing may be skipped, and what is missing is a failure.
"""

import os
from collections.abc import Generator, Iterator
from typing import TypeVar

import pytest
from hypothesis import settings

from lvs_lab import Lab, cache, preflight

# How fast a test is says nothing about what it tests, and a busy machine would fail it now and then.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

REQUIRE_ALL = os.environ.get("LVS_REQUIRE_ALL") == "1"


def pytest_addoption(parser: pytest.Parser) -> None:
    """--lab: where the lab of the kernel and e2e tests comes from."""
    parser.addoption(
        "--lab",
        choices=("start", "attach", "off"),
        default="start",
        help="start: one for this run (default); attach: use the one of `make lab`; off: skip tests that need one",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,  # noqa: ARG001 - pytest passes arguments by name
    call: pytest.CallInfo[None],  # noqa: ARG001
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where nothing may be skipped."""
    report = yield
    return _refuse_skip(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,  # noqa: ARG001
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself."""
    report = yield
    return _refuse_skip(report)


_Report = TypeVar("_Report", pytest.TestReport, pytest.CollectReport)


def _refuse_skip(report: _Report) -> _Report:
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"nothing may be skipped with LVS_REQUIRE_ALL=1, but: {reason}"
    return report


def lab_obstacles(*, kubernetes: bool = True) -> str:
    """Name what keeps a lab from starting here; empty when nothing does."""
    if absent := cache.missing(kubernetes=kubernetes):
        return f"{', '.join(absent)} missing: {cache.HOW_TO_GET_TOOLS}"
    return "\n".join(str(found) for found in preflight.obstacles(preflight.probe()) if found.fatal)


@pytest.fixture(scope="session")
def lab(pytestconfig: pytest.Config) -> Iterator[Lab]:
    """One lab for the whole run: seven nodes and a control plane, empty; whoever changes it puts it back."""
    choice = pytestconfig.getoption("--lab")
    if choice == "off":
        pytest.skip("needs a lab, and --lab=off")
    if choice == "attach":
        yield Lab.attach()
        return
    if obstacles := lab_obstacles():
        pytest.skip(obstacles)
    reporter = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    with Lab.start(progress=reporter.write_line if reporter else None) as started:
        yield started
