"""The agent's metrics."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from lvs_dr.agent.assigner import Assigner
from lvs_dr.agent.health.prober import Prober
from lvs_dr.agent.load.reader import LoadReader
from lvs_dr.agent.loop import Loop
from lvs_dr.agent.redirects import Redirects
from lvs_dr.agent.speaker_client import SpeakerClient
from lvs_dr.process.metrics import Kind, Metrics
from lvs_dr.vrrp.instance import Count, State
from lvs_dr.vrrp.packet import PacketRefusal

METRICS: Final[Mapping[str, Kind]] = {
    "lvs_agent_checks_total": ("counter", "Health checks made."),
    "lvs_agent_checks_failed_total": ("counter", "Health checks that failed or could not be made."),
    "lvs_agent_checks_broken_total": ("counter", "Health checks that could not be made."),
    "lvs_agent_checks_late_total": ("counter", "Health checks that started late by a tenth of their interval or more."),
    "lvs_agent_loads_asked_total": ("counter", "Questions for the load of real servers."),
    "lvs_agent_loads_unknown_total": ("counter", "Those of them without a usable answer."),
    "lvs_agent_report_writes_total": ("counter", "Writes of LVSNode.status."),
    "lvs_agent_passes": ("gauge", "Passes made."),
    "lvs_agent_pass_seconds": ("gauge", "Seconds spent in passes."),
    "lvs_agent_operations_total": ("counter", "Changes made to the kernel."),
    "lvs_agent_operations_failed_total": ("counter", "Changes that the kernel refused."),
    "lvs_agent_pass_failures_total": ("counter", "Passes that failed."),
    "lvs_agent_repairs": ("gauge", "Drift repaired since the start."),
    "lvs_agent_redirector_connected": ("gauge", "Whether the redirector is connected."),
    "lvs_agent_redirect_listeners": ("gauge", "Ports of VIPs whose requests are redirected."),
    "lvs_agent_held_addresses": ("gauge", "VIPs held as Active."),
    "lvs_agent_watch_restarts": ("gauge", "Watches opened again."),
    "lvs_agent_speaker_connected": ("gauge", "Whether lvs-speaker answers."),
    "lvs_agent_speaker_memory_locked": ("gauge", "Whether its memory cannot be paged out (component real-time)."),
    "lvs_agent_speaker_real_time": ("gauge", "Whether it runs before everything ordinary (component real-time)."),
    "lvs_agent_speaker_latest_timer_seconds": ("gauge", "How late a timer of it was at most: jitter of adverts."),
    "lvs_agent_speaker_failures": ("gauge", "Unexpected failures that it survived."),
    "lvs_agent_vrrp_active": ("gauge", "Virtual routers that this node is Active for."),
    "lvs_agent_vrrp_adverts": ("gauge", "Adverts and what came of them, by event, of all virtual routers of now."),
    "lvs_agent_vrrp_refused": ("gauge", "Received packets that were no valid adverts, by reason."),
    "lvs_agent_vrrp_not_sent": ("gauge", "Adverts that could not be sent."),
    "lvs_agent_vrrp_renewals": ("gauge", "Renewals of the lifetimes of VIPs, in batches."),
    "lvs_agent_vrrp_announcements": ("gauge", "Announcements of VIPs."),
    "lvs_agent_vrrp_duplicates": ("gauge", "VIPs held here that another machine answers for."),
}


def watch_parts(
    metrics: Metrics,
    *,
    loop: Loop,
    prober: Prober,
    loads: LoadReader,
    redirects: Redirects,
    assigner: Assigner,
    repairs: Callable[[], float],
    restarts: Callable[[], float],
) -> None:
    """Have the metrics tell what the agent's parts count themselves."""
    gauge = metrics.gauge
    gauge("lvs_agent_passes", lambda: loop.passes)
    gauge("lvs_agent_pass_seconds", lambda: loop.seconds)
    gauge("lvs_agent_repairs", repairs)
    gauge("lvs_agent_checks_late_total", lambda: prober.late)
    gauge("lvs_agent_checks_broken_total", lambda: prober.broken)
    gauge("lvs_agent_loads_asked_total", lambda: loads.asked)
    gauge("lvs_agent_loads_unknown_total", lambda: loads.unanswered)
    gauge("lvs_agent_redirector_connected", lambda: redirects.connected)
    gauge("lvs_agent_redirect_listeners", lambda: redirects.count)
    gauge("lvs_agent_held_addresses", lambda: len(assigner.state.held))
    gauge("lvs_agent_watch_restarts", restarts)


def watch_speaker(metrics: Metrics, speaker: SpeakerClient) -> None:
    """Have the metrics tell what the speaker told last."""
    gauge = metrics.gauge
    gauge("lvs_agent_speaker_connected", lambda: speaker.state().connected)
    gauge("lvs_agent_speaker_memory_locked", lambda: speaker.state().memory_locked)
    gauge("lvs_agent_speaker_real_time", lambda: speaker.state().real_time)
    gauge("lvs_agent_speaker_latest_timer_seconds", lambda: speaker.told.process.latest_timer_milliseconds / 1000)
    gauge("lvs_agent_speaker_failures", lambda: speaker.told.process.failures)
    gauge("lvs_agent_vrrp_active", lambda: sum(each.state == State.ACTIVE for each in speaker.state().routers))
    gauge("lvs_agent_vrrp_not_sent", lambda: speaker.told.packets.not_sent)
    gauge("lvs_agent_vrrp_renewals", lambda: speaker.told.addresses.renewals)
    gauge("lvs_agent_vrrp_announcements", lambda: speaker.told.addresses.announced)
    gauge("lvs_agent_vrrp_duplicates", lambda: len(speaker.told.addresses.duplicates))
    for event in Count:
        gauge("lvs_agent_vrrp_adverts", partial(_counted, speaker, event), event=event)
    for reason in PacketRefusal:
        gauge("lvs_agent_vrrp_refused", partial(_refused, speaker, reason), reason=reason)


def _counted(speaker: SpeakerClient, event: str) -> float:
    return sum(each.counts.get(event, 0) for each in speaker.told.instances)


def _refused(speaker: SpeakerClient, reason: str) -> float:
    return speaker.told.packets.refused.get(reason, 0)
