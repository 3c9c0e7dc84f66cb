"""`lvs-controller`: compiles what users wrote into what agents serve."""

import argparse
import asyncio
import gc
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from lvs_dr.controller.errors import BadConfiguration
from lvs_dr.process import logs
from lvs_dr.process.web import listen_address

DEFAULT_NAMESPACE = "lvs-system"
DEFAULT_LISTEN = "0.0.0.0:9440"


# kopf and its client tell every step otherwise.
QUIET = ("kopf.objects", "kopf.activities", "kopf._core", "kopf._cogs", "aiohttp", "asyncio", "kubernetes")


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
    chosen.add_argument("--log-level", choices=logs.LEVELS, default="info")
    chosen.add_argument("--log-format", choices=logs.FORMATS, default="text")
    return chosen


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the controller."""
    chosen = parser().parse_args(arguments)
    logs.set_up(chosen.log_level, chosen.log_format, quiet=QUIET)
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
    try:
        listen_address(chosen.listen)
    except ValueError as error:
        raise BadConfiguration(f"--listen {error}") from error
    identity = os.environ.get("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}"
    options = Options(namespace=chosen.namespace, listen=chosen.listen, identity=identity, kubeconfig=chosen.kubeconfig)
    return await Process(options).run()


if __name__ == "__main__":
    main()
