"""`lvs-speaker`'s command line."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lvs_dr.agent.kernel.protocol import Interface
from lvs_dr.vrrp import alive
from lvs_dr.vrrp.__main__ import Options, options
from tests.contract.fake_kernel import FakeKernel
from tests.unit.agent.speaker_process import SpeakerProcess

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


def test_a_probe_tells_one_that_answers_from_one_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A speaker that hangs would never be restarted, or a healthy one would be."""
    monkeypatch.setattr(alive, "SECONDS", 0.2)
    path = tmp_path / "speaker.sock"
    assert "speaker.sock" in alive.answers(str(path)), "none runs"
    nobody = run("alive", f"--run-directory={tmp_path}")
    assert (nobody.returncode, "no answer" in nobody.stderr) == (1, True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        assert "timed out" in alive.answers(str(path)), "it takes connections and does nothing"
    path.unlink()
    kernel = FakeKernel()
    kernel.links["eth0"] = Interface(2, "eth0", "02:00:00:00:00:01", True, ("192.0.2.1/24",))
    process = SpeakerProcess(kernel, tmp_path).patched(monkeypatch)
    process.start()
    try:
        monkeypatch.setattr(alive, "SECONDS", 5.0)
        assert alive.answers(str(tmp_path / "run" / "speaker.sock")) == ""
        assert process.speaker is not None
        assert process.speaker._agent_heard == process.started, "a probe is no sign of life of the agent"
    finally:
        process.kill()


def test_only_the_standard_library_is_loaded() -> None:
    """Memory on every director counts, and adverts must not wait for anything else's imports."""
    code = "import sys, lvs_dr.vrrp.__main__, lvs_dr.vrrp.speaker, lvs_dr.vrrp.undisturbed; print(*sorted(sys.modules))"
    argv = [sys.executable, "-c", code]
    loaded = subprocess.run(
        argv, env={"PYTHONPATH": str(OPERATOR)}, capture_output=True, text=True, timeout=60, check=True
    ).stdout.split()
    heavy = {"asyncio", "dataclasses", "inspect", "argparse", "pathlib", "msgspec", "pyroute2", "aiohttp", "ipaddress"}
    assert not heavy & set(loaded)
