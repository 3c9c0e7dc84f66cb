"""Settings of one agent, as the command line gives them; tests give others."""

from dataclasses import dataclass
from pathlib import Path

from lvs_dr.agent.health.checkers import SCRIPTS
from lvs_dr.agent.health.prober import Check
from lvs_dr.agent.load.reader import Ask
from lvs_dr.agent.load.server import PORT
from lvs_dr.agent.loop import POLL_SECONDS, RESYNC_SECONDS
from lvs_dr.agent.report import LEAST_GAP_SECONDS


@dataclass(frozen=True, slots=True)
class Settings:
    """What an agent is told at start."""

    node: str
    namespace: str
    version: str
    boot_id: str
    identity: str = ""
    resync: float = RESYNC_SECONDS
    poll: float = POLL_SECONDS
    watch_idle: float = 70.0
    report_gap: float = LEAST_GAP_SECONDS
    check_scripts: Path = SCRIPTS
    check: Check | None = None  # None: real checks
    load_port: int = PORT  # where the agents of other nodes tell their load
    ask_load: Ask | None = None  # None: it is asked for over the network
    redirector_socket: Path | None = None  # where the redirector connects; None: there is none here
    redirector_uids: tuple[int, ...] = (65532,)  # that it may have
