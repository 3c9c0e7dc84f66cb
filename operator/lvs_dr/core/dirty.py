"""What must be compiled, or summarised, again after something changed: enough, and not everything."""

from typing import Any

from lvs_dr.core.decisions import Dirty, TableDecision
from lvs_dr.core.objects import Key
from lvs_dr.core.world import World


def affected(world: World, kind: str, before: Any, after: Any) -> Dirty:  # noqa: ANN401 - any of the kinds
    """Tell what is affected by an object of `kind` that was `before` and is `after` (None: absent).

    `world` and its index already hold `after`. Kind "Cluster" is the cluster's own addresses.
    """
    raise NotImplementedError


def silence_changed(world: World, node: str) -> Dirty:
    """Tell what is affected when the agent of a node falls silent or is heard again."""
    raise NotImplementedError


def members_changed(before: TableDecision | None, after: TableDecision | None) -> frozenset[Key]:
    """Return the RealServers whose part in a VirtualService changed between two compiles: their status follows."""
    raise NotImplementedError
