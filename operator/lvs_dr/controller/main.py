"""`lvs-controller`: compiles what users wrote into what agents serve."""

import argparse
import asyncio
import gc
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from lvs_dr.controller import logs
from lvs_dr.controller.errors import BadConfiguration

DEFAULT_NAMESPACE = "lvs-system"
DEFAULT_LISTEN = "0.0.0.0:9440"
HIGHEST_PORT = 65535


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    chosen = argparse.ArgumentParser(
        prog="lvs-controller",
        description="Controller of lvs-operator: compiles VirtualServices and RealServers into DirectorTables and "
        "LVSNodes, and reports their state. Run any number of replicas: one leads.",
    )
    chosen.add_argument(
        "--namespace",
        default=os.environ.get("POD_NAMESPACE") or DEFAULT_NAMESPACE,
        help="system namespace, where the Leases are (default: $POD_NAMESPACE, else lvs-system)",
    )
    chosen.add_argument(
        "--listen",
        default=DEFAULT_LISTEN,
        metavar="ADDRESS:PORT",
        help="where /healthz, /readyz and /metrics are served (default: %(default)s)",
    )
    chosen.add_argument(
        "--kubeconfig",
        type=Path,
        default=None,
        help="kubeconfig to use outside of a cluster (default: the pod's ServiceAccount)",
    )
    chosen.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    chosen.add_argument("--log-format", choices=("text", "json"), default="text")
    return chosen


def listen_address(text: str) -> tuple[str, int]:
    """Split ADDRESS:PORT; an IPv6 address stands in brackets. Raises BadConfiguration."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > HIGHEST_PORT:
        raise BadConfiguration(f"--listen {text}: expected ADDRESS:PORT")
    return host.strip("[]"), int(port)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the controller."""
    chosen = parser().parse_args(arguments)
    logs.configure(chosen.log_level, chosen.log_format)
    try:
        code = asyncio.run(_run(chosen))
    except BadConfiguration as error:
        sys.exit(f"lvs-controller: {error}")
    sys.exit(code)


async def _run(chosen: argparse.Namespace) -> int:
    # Imported late: --help and a wrong command line should not take a second.
    from lvs_dr.controller.process import Options, Process  # noqa: PLC0415

    gc.collect()
    gc.freeze()  # what was imported stays: collections need not look at it again
    host, port = listen_address(chosen.listen)
    identity = os.environ.get("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}"
    options = Options(namespace=chosen.namespace, host=host, port=port, identity=identity, kubeconfig=chosen.kubeconfig)
    return await Process(options).run()


if __name__ == "__main__":
    main()
