"""The kernel contract on a real kernel: pytest itself runs on a lab node."""

import re
import sys
from pathlib import Path

from lvs_lab import Lab

REPOSITORY = Path(__file__).parents[2]
NODE = "client-1"
"""No agent runs there."""

SCRIPT = """
set -e
$(cat /proc/sys/kernel/modprobe) fou
ip link set lo up
ip link add eth0 type dummy
ip link set eth0 up
ip address add 192.0.2.1/24 dev eth0
ip address add 2001:db8::1/64 dev eth0 nodad
ip route add default via 192.0.2.254
cd "$1"
exec "$2" -B -m pytest tests/contract -q -p no:cacheprovider --lab=off
"""


def test_the_real_kernel_keeps_the_contract(lab: Lab) -> None:
    """Everything that is tested on the fake kernel would mean nothing."""
    argv = ["unshare", "--net", "sh", "-c", SCRIPT, "sh", str(REPOSITORY), sys.executable]
    done = lab.nodes[NODE].run(*argv, timeout=600, check=False, env={"LVS_CONTRACT_KERNEL": "real"})
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 30
    assert "skipped" not in done.stdout
