"""The part of the lab's command line that is about pods: what `kubectl logs` and `kubectl exec` need a kubelet for."""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Protocol

from lvs_lab.errors import LabError
from lvs_lab.lab import Lab


class AddCommand(Protocol):
    """Declares a command and returns its parser."""

    def __call__(self, name: str, do: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        """Declare `name`, carried out by `do`; `text` is its help."""
        ...


def do_pods(options: argparse.Namespace) -> int:
    """Show the pods as the lab runs them, as JSON lines."""
    for pod in Lab.attach().pods(options.selector):
        print(json.dumps({"name": pod.name, "node": pod.node, "phase": pod.phase, "pids": dict(pod.pids)}))
    return 0


def do_signal(options: argparse.Namespace) -> int:
    """Kill, pause or resume a container."""
    lab = Lab.attach()
    actions: dict[str, Callable[[str, str], None]] = {
        "kill-container": lab.kill_container,
        "pause-container": lab.pause_container,
        "resume-container": lab.resume_container,
    }
    actions[options.command](options.pod, options.container)
    return 0


def do_logs(options: argparse.Namespace) -> int:
    """Print what a container has written."""
    sys.stdout.write(Lab.attach().container_log(options.pod, options.container))
    return 0


def do_exec(options: argparse.Namespace) -> int:
    """Run a command inside a container, with its rights and mounts."""
    argv = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    if not argv:
        raise LabError("exec what? lab/ctl exec POD CONTAINER -- COMMAND …")
    done = Lab.attach().exec_in_container(options.pod, options.container, *argv, check=False)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


def register(command: AddCommand) -> None:
    """Add the commands to the parser."""
    command("pods", do_pods, "show the pods as the lab runs them").add_argument("selector", nargs="?", default="")
    named = {name: command(name, do_signal, f"{name.split('-')[0]} a container's processes") for name in _SIGNALS}
    named["logs"] = command("logs", do_logs, "print what a container has written")
    named["exec"] = command("exec", do_exec, "run a command inside a container, with its rights and mounts")
    for parser in named.values():
        parser.add_argument("pod", metavar="POD")
        parser.add_argument("container", metavar="CONTAINER")
    named["exec"].add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND")


_SIGNALS = ("kill-container", "pause-container", "resume-container")
