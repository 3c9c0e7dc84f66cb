"""Columns that `kubectl get` prints. A path to a list of objects would print JSON: those have summaries in status."""

from typing import Any

from lvs_dr.api import kinds

WIDE = 1


def _column(name: str, path: str, description: str, *, kind: str = "string", priority: int = 0) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "type": kind, "description": description, "jsonPath": path}
    return made | ({"priority": priority} if priority else {})


def _condition(kind: str, field: str = "status") -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


_AGE = _column("Age", ".metadata.creationTimestamp", "Time since the object was created.", kind="date")
_WHY = [
    _column("Reason", _condition("Ready", "reason"), "Why it is ready, or not.", priority=WIDE),
    _column("Message", _condition("Ready", "message"), "What it means and what to do.", priority=WIDE),
]

COLUMNS: dict[kinds.Kind, list[dict[str, Any]]] = {
    kinds.VIRTUAL_SERVICE: [
        _column("VIP", ".spec.address", "Virtual IP address."),
        _column("Ports", ".status.ports", "Ports served."),
        _column("Scheduler", ".spec.scheduler", "IPVS scheduler."),
        _column("Real Servers", ".status.realServers.summary", "Healthy real servers / all that are selected."),
        _column("Director", ".status.activeDirector", "Node that holds the VIP."),
        _column("Ready", _condition("Ready"), "True when an Active director serves it with a healthy real server."),
        _AGE,
        _column("Group", ".spec.directorGroup", "DirectorGroup.", priority=WIDE),
        _column("On Failure", ".spec.onFailure", "What a failed check does.", priority=WIDE),
        _column("Accepted", _condition("Accepted"), "True when the input is usable.", priority=WIDE),
        _column("Programmed", _condition("Programmed"), "True when every director has it.", priority=WIDE),
        *_WHY,
    ],
    kinds.REAL_SERVER: [
        _column("Node", ".spec.nodeName", "Node that serves."),
        _column("Address", ".status.address", "Address that directors send to."),
        _column("Weight", ".spec.weight", "Share of the connections.", kind="integer"),
        _column("State", ".spec.state", "Whether it takes new connections."),
        _column("Ready", _condition("Ready"), "True when it is set up, healthy and in service."),
        _AGE,
        _column(
            "Virtual Services",
            ".status.virtualServices",
            "VirtualServices that select it.",
            kind="integer",
            priority=WIDE,
        ),
        _column("Configured", _condition("Configured"), "VIPs and ARP are set up on its node.", priority=WIDE),
        _column("Healthy", _condition("Healthy"), "Its checks succeed.", priority=WIDE),
        *_WHY,
    ],
    kinds.DIRECTOR_GROUP: [
        _column("Active", ".status.active", "Nodes that hold VIPs."),
        _column("Since", ".status.activeSince", "When a director last became Active.", kind="date"),
        _column("Virtual Services", ".status.virtualServices", "VirtualServices served.", kind="integer"),
        _column("Accepted", _condition("Accepted"), "True when the input is usable."),
        _column("Elected", _condition("Elected"), "True when exactly one director is Active for each VIP."),
        _column("Peers Heard", _condition("PeersHeard"), "True when the directors hear each other."),
        _AGE,
        _column("Directors", ".status.directors", "Nodes that direct.", priority=WIDE),
        _column("Message", _condition("Elected", "message"), "What it means and what to do.", priority=WIDE),
    ],
    kinds.DIRECTOR_TABLE: [
        _column("VIP", ".spec.address", "Virtual IP address."),
        _column("Group", ".spec.directorGroup", "DirectorGroup whose directors serve it."),
        _column("Scheduler", ".spec.scheduler", "IPVS scheduler."),
        _column("Service Generation", ".spec.serviceGeneration", "Compiled from.", kind="integer"),
        _AGE,
        _column("Generation", ".metadata.generation", "What agents report.", kind="integer", priority=WIDE),
        _column("On Failure", ".spec.onFailure", "What a failed check does.", priority=WIDE),
        _column("Paused", ".spec.paused", "Agents write nothing for it.", kind="boolean", priority=WIDE),
    ],
    kinds.LVS_NODE: [
        _column("Director Of", ".spec.director.group", "DirectorGroup that the node directs for."),
        _column("Interface", ".status.directorInterface", "Interface that VIPs are announced on."),
        _column("Decided", ".spec.decided", "False: the agent reports and changes nothing.", kind="boolean"),
        _column("Generation", ".metadata.generation", "What the node must be.", kind="integer"),
        _column("Observed", ".status.observedGeneration", "What the kernel follows.", kind="integer"),
        _column("Problem", ".status.problems[0].reason", "First problem on the node."),
        _AGE,
        _column("Agent", ".status.agentVersion", "Version of the agent.", priority=WIDE),
        _column("Held VIPs", ".status.heldAddresses", "VIPs on the director's interface.", priority=WIDE),
        _column("Loopback VIPs", ".status.loopbackAddresses", "VIPs on lo.", priority=WIDE),
        _column("Repairs", ".status.repairs", "Drift repaired.", kind="integer", priority=WIDE),
        _column("Message", ".status.problems[0].message", "What is wrong and what to do.", priority=WIDE),
    ],
}
