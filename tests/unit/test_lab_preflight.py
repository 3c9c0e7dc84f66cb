"""What the preflight says about a machine: each obstacle by name, with a cure a person can type."""

from dataclasses import fields, replace

import pytest

from lvs_lab.preflight import Facts, Obstacle, obstacles

GIB = 1024**3

CASES: list[tuple[str, dict[str, object], str, str]] = [
    ("user namespaces", {"user_namespace": "EPERM"}, "user namespaces are off", "max_user_namespaces"),
    (
        "Debian's old switch",
        {"user_namespace": "EPERM", "unprivileged_clone_off": True},
        "user namespaces are off",
        "sysctl kernel.unprivileged_userns_clone=1",
    ),
    (
        "no namespaces allowed",
        {"user_namespace": "ENOSPC", "user_namespaces_limit": 0},
        "user namespaces are off",
        "sysctl user.max_user_namespaces=15000",
    ),
    (
        "Ubuntu's AppArmor",
        {"user_namespace": "EPERM", "apparmor_restricts": True},
        "user namespaces are off",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    ("shared memory", {"shared_memory": "mount: permission denied"}, "no own /dev", "tmpfs"),
    ("no bridge", {"network": "Operation not supported"}, "bridge", "modprobe bridge veth"),
    ("ptrace", {"ptrace": "Operation not permitted", "kernel_refused": "x"}, "ptrace is refused", "ptrace_scope"),
    ("UML", {"kernel_refused": "no PTRACE_SYSEMU"}, "does not start (no PTRACE_SYSEMU)", "seccomp"),
    ("disk", {"free_disk": 3 * GIB, "to_build": ("etcd",)}, "3.0 GB of disk free, 5 GB needed", "XDG_CACHE_HOME"),
    ("memory", {"available_memory": GIB}, "1.0 GB of memory", "free some"),
    ("processes", {"process_limit": 100}, "only 100 processes", "ulimit -u"),
    ("nsenter", {"missing_commands": ("nsenter",)}, "nsenter is not installed", "apt-get install util-linux"),
    ("make", {"missing_commands": ("make",)}, "make is not installed", "apt-get install make"),
    ("old Go", {"go": (1, 19), "to_build": ("etcd",)}, "Go 1.19 is too old", "install Go 1.26 or newer"),
    ("no Go", {"go": None, "to_build": ("etcd",)}, "no Go on the PATH", "KUBEBUILDER_ASSETS"),
    ("architecture", {"architecture": "aarch64"}, "this machine is aarch64", "x86-64"),
    ("Python", {"readable_python": False}, "no Python", "python3"),
]


def test_nothing_in_the_way() -> None:
    """A machine where everything works is told nothing."""
    assert obstacles(Facts()) == []


@pytest.mark.parametrize(("changes", "what", "cure"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_obstacle_has_a_cure(changes: dict[str, object], what: str, cure: str) -> None:
    """One thing wrong gives one obstacle, named, with a one-line cure."""
    known = {field.name for field in fields(Facts)}
    assert set(changes) <= known
    found = obstacles(replace(Facts(), **changes))  # type: ignore[arg-type]
    assert len(found) == 1
    assert what in found[0].what
    assert cure in found[0].cure
    assert "\n" not in found[0].cure
    assert found[0].fatal


def test_masked_proc_is_only_a_note() -> None:
    """The lab works with the host's /proc, so a masked one must not stop anybody."""
    (found,) = obstacles(Facts(fresh_proc="mount failed"))
    assert not found.fatal
    assert "/proc is masked" in str(found)


def test_go_and_disk_do_not_matter_once_built() -> None:
    """A machine with all binaries in the cache needs neither Go nor 5 GB."""
    assert obstacles(Facts(go=None, free_disk=2 * GIB)) == []


def test_without_user_namespaces_their_consequences_are_not_listed() -> None:
    """One cause, one line: what needs a user namespace is not judged without one."""
    found = obstacles(Facts(user_namespace="EPERM", network="EPERM", shared_memory="EPERM", ptrace=""))
    assert [obstacle.what for obstacle in found] == ["user namespaces are off (EPERM)"]


def test_gravest_first() -> None:
    """Notes come after what stops the lab."""
    found = obstacles(Facts(fresh_proc="masked", available_memory=GIB))
    assert [obstacle.fatal for obstacle in found] == [True, False]


def test_obstacle_reads_as_two_lines() -> None:
    """What, and the cure below it."""
    assert str(Obstacle("x is off", "turn x on")) == "in the way: x is off\n    cure: turn x on"
