"""A whole cluster on one Linux machine, without root: real Kubernetes API server, one real kernel per node."""

from lvs_lab.capture import Capture
from lvs_lab.client import Node, NodeProcess
from lvs_lab.errors import CommandFailed, CommandTimeout, LabError, NodeUnreachable, StartFailed, ToolsMissing
from lvs_lab.lab import Lab
from lvs_lab.spec import DEFAULT_NODES, Completed, NodeSpec, PodInfo

__all__ = [
    "DEFAULT_NODES",
    "Capture",
    "CommandFailed",
    "CommandTimeout",
    "Completed",
    "Lab",
    "LabError",
    "Node",
    "NodeProcess",
    "NodeSpec",
    "NodeUnreachable",
    "PodInfo",
    "StartFailed",
    "ToolsMissing",
]
