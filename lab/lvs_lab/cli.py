"""The lab's command line, for people: lab/ctl COMMAND."""

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence

from lvs_lab import cache, cli_pods, debian, gobuild, preflight, rundir
from lvs_lab.client import Node
from lvs_lab.errors import LabError
from lvs_lab.lab import Lab
from lvs_lab.progress import say
from lvs_lab.spec import INTERFACES
from lvs_lab.terminal import shell

_CHANGES = {
    "kill": "kill a node's kernel, as a power failure would",
    "boot": "boot a dead node",
    "reboot": "terminate a node's processes, power off, boot",
    "freeze": "stop a node's kernel where it is",
    "thaw": "let a frozen node go on",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    options = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended in order, as with Ctrl-C
    try:
        code: int = options.do(options)
    except LabError as error:
        say(f"lab: {error}")
        return 1
    except KeyboardInterrupt:
        say("lab: interrupted")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    return code


def do_preflight(options: argparse.Namespace) -> int:
    """Name what is in the lab's way."""
    found = preflight.obstacles(preflight.probe())
    for obstacle in found:
        say(str(obstacle))
    if any(obstacle.fatal for obstacle in found):
        return 1
    if options.verbose:
        say("nothing is in the lab's way on this machine")
    return 0


def do_tools(options: argparse.Namespace) -> int:
    """Fetch and build what is missing."""
    with cache.locked(say):
        debian.fetch(debian.wanted(options.package), say)
        cache.link_modules()
        if not options.no_kubernetes:
            gobuild.build(say)
    cache.tools(kubernetes=not options.no_kubernetes)
    return 0


def do_up(options: argparse.Namespace) -> int:
    """Start a lab."""
    if options.detach:
        try:
            running = rundir.current()
        except LabError:
            pass
        else:
            say(f"lab: one is running already ({running}); `make lab-down` ends it")
            return 1
    began = time.monotonic()
    lab = Lab.start(progress=say, kubernetes=not options.no_kubernetes, detach=options.detach)
    try:
        if options.operator:
            from lvs_lab import install  # noqa: PLC0415 - needs the repository's manifests

            install.install(lab, say)
    except BaseException:
        lab.stop()
        raise
    say(f"the lab is up after {time.monotonic() - began:.0f} s: {', '.join(lab.nodes)}")
    say("")
    if not options.no_kubernetes:
        kubectl = cache.find_binary("kubectl")
        say(f"  export KUBECONFIG={lab.kubeconfig}")
        say(f"  {kubectl} get nodes")
    say("  lab/ctl shell director-1    a shell on a node")
    say("  lab/ctl --help              what else can be done to it")
    if options.detach:
        say("  make lab-down               ends it")
        return 0
    say("  Ctrl-C                      ends it")
    with lab:
        _wait_for_end(lab)
    return 0


def _wait_for_end(lab: Lab) -> None:
    while rundir.is_alive(lab.run_dir):
        time.sleep(0.5)
    say("lab: it has ended")


def do_down(_options: argparse.Namespace) -> int:
    """End the lab that `up --detach` left running."""
    try:
        lab = Lab.attach()
    except LabError as error:
        say(f"lab: {error}")
        return 0
    lab.stop()
    say("the lab is down")
    return 0


def do_status(_options: argparse.Namespace) -> int:
    """Show the nodes."""
    lab = Lab.attach()
    print(f"run directory {lab.run_dir}")
    for node in lab.status()["nodes"]:
        spec = lab.nodes[node["spec"]["name"]].spec
        state = "up" if node["answers"] else "silent (frozen?)" if node["alive"] else "dead"
        print(f"{spec.name:<14} {state:<17} {spec.lan_address:<16} {spec.lan_address6:<10} boots {node['boots']}")
    return 0


def do_env(_options: argparse.Namespace) -> int:
    """Print what to evaluate in a shell."""
    lab = Lab.attach()
    print(f"export KUBECONFIG={lab.kubeconfig}")
    if kubectl := cache.find_binary("kubectl"):
        print(f'export PATH="{kubectl.parent}:$PATH"')
    return 0


def do_run(options: argparse.Namespace) -> int:
    """Run a command on a node."""
    argv = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    if not argv:
        raise LabError("run what? lab/ctl run NODE -- COMMAND …")
    stdin = sys.stdin.read() if options.stdin else ""
    return _node(options).stream(*argv, output=_print_stream, stdin=stdin)


def do_shell(options: argparse.Namespace) -> int:
    """Give a shell on a node."""
    lab = Lab.attach()
    _known(lab, options.node)
    return shell(lab.run_dir / "lab.sock", options.node, options.argv or ["bash", "-l"])


def do_capture(options: argparse.Namespace) -> int:
    """Show packets as they come."""
    argv = ["tcpdump", "-i", options.interface, "-nnel", "--immediate-mode", "-Z", "root", *options.expression]
    with contextlib.suppress(KeyboardInterrupt):  # the usual end
        return _node(options).stream(*argv, output=_print_stream)
    return 0


def do_change(options: argparse.Namespace) -> int:
    """Change a node's state."""
    getattr(_node(options), options.command)()
    return 0


def do_cut(options: argparse.Namespace) -> int:
    """Cut a node off a network, or end that."""
    node = _node(options)
    (node.cut_off if options.command == "cut" else node.reconnect)(options.network)
    return 0


def do_netem(options: argparse.Namespace) -> int:
    """Delay and drop."""
    node = _node(options)
    if options.delay_ms or options.loss_percent:
        node.netem(options.network, delay_ms=options.delay_ms, loss_percent=options.loss_percent)
    else:
        node.clear_netem(options.network)
    return 0


def do_api(options: argparse.Namespace) -> int:
    """Stop and start the API server."""
    lab = Lab.attach()
    actions: dict[str, Callable[[], None]] = {
        "stop": lab.stop_api_server,
        "start": lab.start_api_server,
        "restart": lab.restart_api_server,
    }
    actions[options.action]()
    return 0


def _node(options: argparse.Namespace) -> Node:
    lab = Lab.attach()
    _known(lab, options.node)
    return lab.nodes[options.node]


def _known(lab: Lab, name: str) -> None:
    if name not in lab.nodes:
        raise LabError(f"no node {name!r}: there are {', '.join(lab.nodes)}")


def _print_stream(stream: str, text: str) -> None:
    target = sys.stdout if stream == "stdout" else sys.stderr
    target.write(text)
    target.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab/ctl", description="A whole cluster on one Linux machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, do: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(do=do)
        return added

    def on_node(name: str, do: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = command(name, do, text)
        added.add_argument("node", metavar="NODE")
        return added

    checked = command("preflight", do_preflight, "name what is in the lab's way on this machine, with the cure")
    checked.add_argument("-v", "--verbose", action="store_true", help="also say when nothing is")
    tools = command("tools", do_tools, "fetch and build what is missing into the user's cache")
    tools.add_argument(
        "--with", dest="package", action="append", default=[], choices=debian.ON_REQUEST, help="also this"
    )
    tools.add_argument("--no-kubernetes", action="store_true", help="build no Kubernetes binaries")
    up = command("up", do_up, "start a lab")
    up.add_argument("--detach", action="store_true", help="leave it running until `down`")
    up.add_argument("--operator", action="store_true", help="install the operator from manifests/")
    up.add_argument("--no-kubernetes", action="store_true", help="nodes only")
    command("down", do_down, "end the lab that `up --detach` left running")
    command("status", do_status, "show the nodes")
    command("env", do_env, 'print settings for a shell: eval "$(lab/ctl env)"')
    run = command("run", do_run, "run a command on a node")
    run.add_argument("-i", "--stdin", action="store_true", help="pass the standard input on")
    run.add_argument("node", metavar="NODE")
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND")
    on_node("shell", do_shell, "get a shell on a node").add_argument("argv", nargs=argparse.REMAINDER)
    capture = on_node("capture", do_capture, "show packets on a node's interface")
    capture.add_argument("interface", metavar="INTERFACE")
    capture.add_argument("expression", nargs=argparse.REMAINDER, metavar="EXPRESSION")
    for name, text in _CHANGES.items():
        on_node(name, do_change, text)
    for name, text in (("cut", "cut a node off a network"), ("heal", "end cut")):
        on_node(name, do_cut, text).add_argument("network", choices=INTERFACES)
    netem = on_node("netem", do_netem, "delay and drop what a node sends; without options, no more")
    netem.add_argument("network", choices=INTERFACES)
    netem.add_argument("--delay-ms", type=int, default=0)
    netem.add_argument("--loss-percent", type=float, default=0)
    api = command("api", do_api, "stop and start the API server")
    api.add_argument("action", choices=("stop", "start", "restart"))
    cli_pods.register(command)
    return parser
