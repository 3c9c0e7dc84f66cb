"""Runs inside a lab node, in a network namespace of its own: two real agents on one node, without an API server.

Both start from one last good state, as two pods of a roll-out do. Prints what was seen, by name, as JSON.
"""

import contextlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import msgspec

from lvs_dr.agent.lastgood import LastGood, LastGoodFile, StoredTable, TableVersion
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.table import DirectorTableSpec

RUN, STATE = Path("/run/overlap/run"), Path("/run/overlap/state")
TABLE = {
    "directorGroup": "default",
    "serviceGeneration": 1,
    "address": "192.0.2.100",
    "ports": [{"port": 80, "protocol": "TCP"}],
    "scheduler": "rr",
    "onFailure": "Remove",
    "destinations": [{"realServer": "one", "address": "192.0.2.21", "weight": 100}],
}
DIRECTOR = {
    "group": "default",
    "internalAddresses": ["192.0.2.1"],
    "tables": ["web/one"],
    "vrrp": {"routers": [{"id": 51, "priority": 250, "addresses": ["192.0.2.100"]}]},
}


def agent(port: int) -> subprocess.Popen[str]:
    """Start a real agent."""
    argv = [sys.executable, "-B", "-m", "lvs_dr.agent.main", "run", "--node-name=node-1", f"--run-directory={RUN}"]
    argv += [f"--state-directory={STATE}", f"--listen=127.0.0.1:{port}", "--api-server=http://127.0.0.1:1"]
    return subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)


def speaker() -> subprocess.Popen[str]:
    """Start the real speaker, which lives through both agents."""
    argv = [sys.executable, "-B", "-m", "lvs_dr.vrrp", "--run-directory", str(RUN), "--state-directory", str(STATE)]
    return subprocess.Popen(argv, stderr=subprocess.DEVNULL, text=True)


def ready(port: int) -> tuple[int, str]:
    """Return what /readyz says; 0 while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def rules() -> str:
    """Return the IPVS table and who added what where."""
    text = subprocess.run(["ipvsadm", "-Sn"], capture_output=True, text=True, timeout=20, check=True).stdout
    return text + subprocess.run(["ip", "address", "show", "dev", "eth0"], capture_output=True, text=True, timeout=20,
                                 check=True).stdout  # fmt: skip


def until(check: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for a kernel's or a process's state, which tell nothing. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.05)


def main() -> None:
    """Overlap: the first has the node, the second waits; the first is killed, the second takes over."""
    for command in (
        "link set lo up",
        "link add eth0 type dummy",
        "link set eth0 up",
        "address add 192.0.2.1/24 dev eth0",
    ):
        subprocess.run(["ip", *command.split()], check=True, timeout=20)
    spec = msgspec.convert({"decided": True, "director": DIRECTOR}, LVSNodeSpec)
    tables = {"web/one": StoredTable(TableVersion(1, "uid"), msgspec.convert(TABLE, DirectorTableSpec))}
    LastGoodFile(STATE).save(LastGood("node-1", 1, spec, tables, "uid"))
    seen: dict[str, object] = {}
    with contextlib.ExitStack() as stack:
        stack.callback(speaker().kill)
        old = agent(9001)
        stack.callback(old.kill)
        until(lambda: "192.0.2.100/32" in rules())
        seen["before"] = rules()
        stamp = (RUN / "ledger.json").stat().st_mtime_ns
        new = agent(9002)
        stack.callback(new.kill)
        until(lambda: ready(9002)[0])
        seen["waiting"] = ready(9002)
        seen["alive"] = old.poll() is None and new.poll() is None
        # The only sleep: the time in which two agents that fight would undo each other's work.
        time.sleep(6.5)
        seen["still waiting"] = ready(9002)
        seen["meanwhile"] = rules()
        seen["ledger untouched"] = (RUN / "ledger.json").stat().st_mtime_ns == stamp
        subprocess.run(["ipvsadm", "-D", "-t", "192.0.2.100:80"], check=True, timeout=20)
        until(lambda: "192.0.2.21" in rules())
        seen["repaired by the first"] = ready(9002)
        old.kill()
        old.wait()
        subprocess.run(["ipvsadm", "-D", "-t", "192.0.2.100:80"], check=True, timeout=20)
        until(lambda: "192.0.2.21" in rules())
        until(lambda: "another agent" not in ready(9002)[1])
        seen["after"] = rules()
        seen["lock"] = (RUN / "lock").read_text() == f"lvs-agent run (pid {new.pid})\n"
        new.terminate()
        seen["code"] = new.wait(timeout=20)
        seen["after the end"] = rules()
        seen["old says"], seen["new says"] = old.communicate()[1], new.communicate()[1]
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main()
