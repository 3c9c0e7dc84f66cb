"""Command line, logs, metrics and readiness."""

import json
import logging

import pytest

from lvs_dr.controller.main import parser
from lvs_dr.controller.metrics import METRICS
from lvs_dr.controller.readiness import Readiness
from lvs_dr.process.logs import JsonFormatter
from lvs_dr.process.metrics import Metrics
from lvs_dr.process.web import listen_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.0.0.0:9440", ("0.0.0.0", 9440)), ("[::1]:80", ("::1", 80)), ("[::]:9440", ("::", 9440))],
)
def test_listen_address(text: str, expected: tuple[str, int]) -> None:
    """Both families can be served."""
    assert listen_address(text) == expected


@pytest.mark.parametrize("text", ["9440", ":9440", "host:", "host:x", "host:70000"])
def test_bad_listen_address_is_named(text: str) -> None:
    """A typing error ends in one line, not in a traceback."""
    with pytest.raises(ValueError, match="ADDRESS:PORT"):
        listen_address(text)


def test_namespace_follows_the_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases are looked for where the controller runs."""
    monkeypatch.setenv("POD_NAMESPACE", "elsewhere")
    assert parser().parse_args([]).namespace == "elsewhere"
    monkeypatch.delenv("POD_NAMESPACE")
    assert parser().parse_args([]).namespace == "lvs-system"


def test_json_logs_are_one_object_a_line() -> None:
    """A message with quotes and line breaks does not break a log collector."""
    record = logging.LogRecord("lvs_dr", logging.WARNING, "", 0, 'say "%s"', ("a\nb",), None)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == 'say "a\nb"'


def test_metrics_are_rendered_for_prometheus() -> None:
    """Values, labels and types as a scraper expects them."""
    metrics = Metrics(METRICS)
    metrics.count("lvs_controller_writes_total", kind='a"b', verb="apply")
    metrics.gauge("lvs_controller_failing", lambda: 2.0)
    text = metrics.text()
    assert 'lvs_controller_writes_total{kind="a\\"b",verb="apply"} 1\n' in text
    assert "# TYPE lvs_controller_failing gauge\nlvs_controller_failing 2\n" in text
    assert metrics.value("process_resident_memory_bytes") > 2**20


def test_readiness_names_what_is_wrong() -> None:
    """Whoever looks at /readyz learns which part fails, and when it no longer does."""
    readiness = Readiness()
    answers = ["two objects cannot be written"]
    readiness.check(lambda: answers[0])
    readiness.report("leases", "403")
    assert readiness.problems() == ["leases: 403", "two objects cannot be written"]
    readiness.report("leases", "")
    answers[0] = ""
    assert readiness.problems() == []
