"""`lvs-speaker`'s command line."""

import subprocess
import sys
from pathlib import Path

import pytest

from lvs_dr.vrrp.__main__ import Options, options

OPERATOR = Path(__file__).parents[3] / "operator"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it as a user would."""
    argv = [sys.executable, "-m", "lvs_dr.vrrp", *arguments]
    return subprocess.run(
        argv, env={"PYTHONPATH": str(OPERATOR)}, capture_output=True, text=True, timeout=60, check=False
    )


def test_options_are_read_in_both_forms() -> None:
    """A manifest's flags would be ignored."""
    assert options([]) == Options()
    found = options(["--run-directory=/a=b", "--stop-wait", "5", "--log-format", "json"])
    assert found == Options(run_directory="/a=b", stop_wait=5.0, log_format="json")


@pytest.mark.parametrize(
    "words",
    [["--x", "1"], ["run"], ["--stop-wait"], ["--stop-wait", "soon"], ["--stop-wait", "-1"], ["--log-level", "loud"]],
)
def test_what_is_not_understood_is_refused(words: list[str]) -> None:
    """A typing error would silently mean the default."""
    with pytest.raises(ValueError, match=r"option|value|float"):
        options(words)


def test_help_and_wrong_usage_tell_the_options() -> None:
    """Nobody would find out what may be set."""
    helped = run("--help")
    assert helped.returncode == 0
    for name in Options._fields:
        assert f"--{name.replace('_', '-')}" in helped.stdout
    refused = run("--nonsense", "1")
    assert refused.returncode == 2
    assert "unknown option --nonsense" in refused.stderr


def test_only_the_standard_library_is_loaded() -> None:
    """Memory on every director counts, and adverts must not wait for anything else's imports."""
    code = "import sys, lvs_dr.vrrp.__main__; print(*sorted(sys.modules))"
    argv = [sys.executable, "-c", code]
    loaded = subprocess.run(
        argv, env={"PYTHONPATH": str(OPERATOR)}, capture_output=True, text=True, timeout=60, check=True
    ).stdout.split()
    heavy = {"asyncio", "dataclasses", "inspect", "argparse", "pathlib", "msgspec", "pyroute2", "aiohttp", "ipaddress"}
    assert not heavy & set(loaded)
