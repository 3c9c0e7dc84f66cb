"""The commands of `lvs-agent` with real parts: kernel, files, API server."""

import argparse
import asyncio
import logging
import math
import os
import signal
import sys
from collections.abc import Callable

from lvs_dr.agent.agent import Agent
from lvs_dr.agent.apiclient import ApiClient, ApiSettings
from lvs_dr.agent.byhand import CleanUpError, clean_up, show_plan, show_status
from lvs_dr.agent.byhand import show as show_owned
from lvs_dr.agent.door import KernelDoor
from lvs_dr.agent.hostlock import WAIT_SECONDS, HostLock, HostLockedError, turn
from lvs_dr.agent.kernel.errors import KernelError
from lvs_dr.agent.kernel.events import Events
from lvs_dr.agent.kernel.node import NodeKernel
from lvs_dr.agent.lastgood import LastGoodFile
from lvs_dr.agent.ledger import DamagedLedgerError, LedgerFile
from lvs_dr.agent.load.sampler import Sampler
from lvs_dr.agent.load.server import LoadServer
from lvs_dr.agent.main import version
from lvs_dr.agent.memory import share_the_interpreter, use_memory_calmly
from lvs_dr.agent.metrics import watch_speaker
from lvs_dr.agent.settings import Settings
from lvs_dr.agent.speaker_byhand import SpeakerByHand, SpeakerHangsError
from lvs_dr.agent.speaker_client import SpeakerClient
from lvs_dr.agent.wire import PacketWire
from lvs_dr.process.metrics import Metrics
from lvs_dr.process.web import StatusServer, listen_address

log = logging.getLogger(__name__)

EXPECTED = (HostLockedError, KernelError, DamagedLedgerError, CleanUpError, SpeakerHangsError, OSError, ValueError)

_doors: list[KernelDoor] = []


def stuck() -> bool:
    """Whether a kernel call hangs, so that threads cannot be waited for."""
    return any(door.stuck for door in _doors)


def explain(error: BaseException) -> str:
    """Return an error in words, with what to do where that is known."""
    if isinstance(error, PermissionError):
        return f"{error}; it must run as root (uid 0) with the capabilities NET_ADMIN and NET_RAW"
    return str(error)


def run(options: argparse.Namespace) -> int:
    """Follow the API server until SIGTERM."""
    if not options.node_name:
        raise ValueError("the node's name is not known: set NODE_NAME or --node-name")
    settings = ApiSettings.from_pod(server=options.api_server, token_file=options.token_file, ca_file=options.ca_file)
    with HostLock(options.run_directory, purpose="lvs-agent run") as lock:
        asyncio.run(_run(options, settings, lock))
    return 0


async def _run(options: argparse.Namespace, api: ApiSettings, lock: HostLock) -> None:
    wait = math.inf if options.lock_wait is None else options.lock_wait
    await turn(lock, listen=options.listen, wait=wait, tell=log.warning)
    kernel = NodeKernel(options.proc_sys_net)
    boot_id = kernel.boot_id()
    door = KernelDoor(kernel)
    _doors.append(door)
    ledger = LedgerFile(options.run_directory, boot_id)
    damage = _load(ledger)
    speaker = SpeakerClient(
        kernel,
        door,
        PacketWire(),
        run_directory=options.run_directory,
        state_directory=options.state_directory,
    )
    settings = _settings(options, boot_id)
    load = LoadServer(options.load_listen, Sampler(options.node_name), own=lambda: agent.node_pass.own_interfaces)
    async with ApiClient(api) as client:
        agent = Agent(
            settings,
            client=client,
            door=door,
            speaker=speaker,
            ledger=ledger,
            last_good=LastGoodFile(options.state_directory),
            resolver=PacketWire(),
            asker=PacketWire(),
            speaker_repairs=lambda: speaker.told.addresses.restored,
            more={"connection to the speaker": speaker.run, "load for directors": load.run},
        )
        speaker.news, speaker.alive = agent.wake, agent.well
        watch_speaker(agent.metrics, speaker)
        if damage:
            agent.troubles["ledger"] = damage
        if agent.restore():
            log.info("starting from the last good state in %s", options.state_directory)
        _on_signals(agent.loop.stop)
        events = Events(lambda _: agent.loop.look_around())
        web = StatusServer(
            options.listen,
            healthy=agent.healthy,
            ready=lambda: agent.loop.ready() or speaker.missing(),
            metrics=agent.metrics,
        )
        try:
            async with web:
                log.info("lvs-agent %s on node %s, boot %s", settings.version, settings.node, boot_id)
                use_memory_calmly()
                share_the_interpreter()
                await agent.run()
        finally:
            events.close()
            door.close()
    log.info("stopped; the kernel is left as it is")


def _settings(options: argparse.Namespace, boot_id: str) -> Settings:
    return Settings(
        node=options.node_name,
        namespace=options.namespace,
        version=version(),
        boot_id=boot_id,
        identity=f"{options.node_name}_{boot_id[:8]}_{os.getpid()}",
        check_scripts=options.check_scripts,
        load_port=listen_address(options.load_listen)[1],
        redirector_socket=options.redirector_socket,
        redirector_uids=(options.redirector_uid,),
    )


def _on_signals(stop: Callable[[], None]) -> None:
    """Have the signals that end a process stop it in good order."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


def _load(ledger: LedgerFile) -> str:
    """Load the ledger; returns what is wrong with it. Without it the agent takes over what it finds."""
    try:
        ledger.load()
    except DamagedLedgerError as error:
        log.error("%s; what is found in the kernel is taken over, and stays when it is no longer wanted", error)  # noqa: TRY400
        return str(error)
    return ""


def cleanup(options: argparse.Namespace) -> int:
    """Remove everything of ours from the node."""
    with HostLock(options.run_directory, purpose="lvs-agent cleanup") as lock:
        lock.acquire(wait=WAIT_SECONDS if options.lock_wait is None else options.lock_wait, tell=log.warning)
        kernel = NodeKernel(options.proc_sys_net)
        try:
            ledger = LedgerFile(options.run_directory, kernel.boot_id())
            ledger.load(put_aside=False)
            clean_up(kernel, ledger, LastGoodFile(options.state_directory), _speaker(options, kernel), say)
        finally:
            kernel.close()
    if options.stay:
        asyncio.run(_stay(options.listen))
    return 0


async def _stay(listen: str) -> None:
    """Answer probes until SIGTERM, so that a DaemonSet shows where the clean-up is done."""
    stop = asyncio.Event()
    _on_signals(stop.set)
    async with StatusServer(listen, healthy=lambda: "", ready=lambda: "", metrics=Metrics({})):
        await stop.wait()


def show(options: argparse.Namespace) -> int:
    """Print what is ours on this node."""
    kernel = NodeKernel(options.proc_sys_net)
    try:
        ledger = LedgerFile(options.run_directory, kernel.boot_id())
        ledger.load(put_aside=False)
        show_owned(kernel, ledger, _speaker(options, kernel), say)
    finally:
        kernel.close()
    return 0


def status(options: argparse.Namespace) -> int:
    """Print what the node is to be, and what the speaker does."""
    kernel = NodeKernel(options.proc_sys_net)
    try:
        show_status(LastGoodFile(options.state_directory), options.node_name, _speaker(options, kernel), say)
    finally:
        kernel.close()
    return 0


def _speaker(options: argparse.Namespace, kernel: NodeKernel) -> SpeakerByHand:
    return SpeakerByHand(options.run_directory, options.state_directory, kernel)


def plan(options: argparse.Namespace) -> int:
    """Print what the next pass would do."""
    last_good = LastGoodFile(options.state_directory)
    kernel = NodeKernel(options.proc_sys_net)
    try:
        ledger = LedgerFile(options.run_directory, kernel.boot_id())
        ledger.load(put_aside=False)
        known = show_plan(kernel, ledger, last_good, options.node_name, say, speaker=_speaker(options, kernel))
    finally:
        kernel.close()
    if not known:
        raise ValueError(f"there is no last good state in {last_good.path}: has an agent run here?")
    return 0


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
