"""`lvs-agent`: the command line."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from lvs_dr.process import logs
from lvs_dr.process.web import listen_address

COMMANDS = ("run", "cleanup", "show", "status", "plan")
EXIT_FAILED = 1
EXIT_LOCKED = 3  # another lvs-agent runs on the node


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line. Without a command it is `run`."""
    common, serving = _common_options(), _serving_options()
    top = argparse.ArgumentParser(
        prog="lvs-agent",
        description="Programs this node's kernel as lvs-operator's objects say: IPVS, VIPs, ARP settings.",
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    run = commands.add_parser("run", parents=[common, serving], help="follow the API server (the default)")
    _add_run_options(run)
    cleanup = commands.add_parser(
        "cleanup", parents=[common, serving], help="remove everything of ours from this node; stop the agent first"
    )
    cleanup.add_argument("--stay", action="store_true", help="keep running afterwards, as a DaemonSet must")
    commands.add_parser("show", parents=[common], help="print what is ours on this node, IPVS as `ipvsadm -Sn` does")
    commands.add_parser(
        "status", parents=[common], help="print what this node is to be, and what the VRRP speaker does"
    )
    commands.add_parser("plan", parents=[common], help="print what the next pass would do; change nothing")
    return top


def _common_options() -> argparse.ArgumentParser:
    """Return the options that every command has."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--node-name", default=os.environ.get("NODE_NAME", ""), help="name of the Node (default: $NODE_NAME)"
    )
    common.add_argument(
        "--state-directory", type=Path, default=Path("/var/lib/lvs-operator"), help="where the last good state is kept"
    )
    common.add_argument(
        "--run-directory",
        type=Path,
        default=Path("/run/lvs-operator"),
        help="where ledger and lock are; lost at reboot",
    )
    common.add_argument("--proc-sys-net", type=Path, default=Path("/proc/sys/net"), help="the host's /proc/sys/net")
    common.add_argument("--log-level", choices=logs.LEVELS, default="info", help="least level that is logged")
    common.add_argument("--log-format", choices=logs.FORMATS, default="text", help="form of the log on standard error")
    return common


def _serving_options() -> argparse.ArgumentParser:
    """Return the options of commands that stay and answer probes."""
    serving = argparse.ArgumentParser(add_help=False)
    serving.add_argument(
        "--listen", type=_listen, default="0.0.0.0:9441", help="address of /healthz, /readyz and /metrics"
    )
    serving.add_argument(
        "--lock-wait", type=float, help="seconds to wait for another agent to leave (run: no limit, cleanup: 30)"
    )
    return serving


def _add_run_options(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--namespace",
        default=os.environ.get("POD_NAMESPACE") or "lvs-system",
        help="namespace of the Leases (default: $POD_NAMESPACE, else lvs-system)",
    )
    run.add_argument("--api-server", default="", help="URL of the API server (default: the cluster's own)")
    run.add_argument("--token-file", default="", help="bearer token (default: the pod's)")
    run.add_argument("--ca-file", default="", help="CA of the API server (default: the pod's)")
    run.add_argument(
        "--load-listen",
        type=_listen,
        default="*:9442",
        help="address of /load, which tells directors how busy this node is; agents ask each other at this port",
    )
    run.add_argument(
        "--redirector-socket",
        type=Path,
        help="where lvs-redirector connects, for VirtualServices with forwardingMethod Redirect (default: nowhere)",
    )
    run.add_argument(
        "--redirector-uid", type=int, default=65532, help="user id of lvs-redirector; no other may connect"
    )
    run.add_argument(
        "--check-scripts",
        type=Path,
        default=Path("/etc/lvs-operator/check-scripts"),
        help="directory of the scripts that health checks of kind exec may name",
    )


def _listen(text: str) -> str:
    try:
        listen_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def version() -> str:
    """Return the version of this agent."""
    try:
        return metadata.version("lvs-operator")
    except metadata.PackageNotFoundError:
        return "0.0.0+source"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with its code: 0 done, 1 failed, 2 wrong usage, 3 another agent runs here."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0] not in COMMANDS and given[0] not in ("-h", "--help")):
        given.insert(0, "run")
    options = parser().parse_args(given)
    logs.set_up(options.log_level, options.log_format)
    # As process 1 of a container a signal without a handler would be ignored, also while we wait for the lock.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    from lvs_dr.agent import hostlock, process  # noqa: PLC0415 - after --help and usage errors: loads the rest

    try:
        code = getattr(process, options.command)(options)
    except process.EXPECTED as error:
        sys.stderr.write(f"lvs-agent: {process.explain(error)}\n")
        code = EXIT_LOCKED if isinstance(error, hostlock.HostLockedError) else EXIT_FAILED
    except KeyboardInterrupt:
        code = 130
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    sys.stderr.flush()
    if process.stuck():
        os._exit(code)  # a thread that hangs in the kernel would keep us here
    sys.exit(code)


if __name__ == "__main__":
    main()
