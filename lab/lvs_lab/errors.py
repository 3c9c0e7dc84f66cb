"""What can go wrong in the lab, as the caller sees it.

LabError
├── ToolsMissing      something has to be fetched, built or allowed first; the message is the cure
├── StartFailed       the sandbox, a node or the control plane did not come up
├── NodeUnreachable   the node is down, frozen or did not answer in time
├── CommandFailed     a command on a node (or kubectl) ended with another code than 0
└── CommandTimeout    a command did not end in time; it has been killed
"""

from collections.abc import Sequence

from lvs_lab.spec import Completed


class LabError(Exception):
    """Base of all errors of the lab."""


class ToolsMissing(LabError):
    """Something has to be fetched, built or allowed first; the message names the cure."""


class StartFailed(LabError):
    """The sandbox, a node or the control plane did not come up."""


class NodeUnreachable(LabError):
    """The node is down, frozen, or did not answer in time."""


class CommandTimeout(LabError):
    """A command did not end in time; it has been killed."""


class CommandFailed(LabError):
    """A command ended with another code than 0; `completed` has its output."""

    def __init__(self, where: str, argv: Sequence[str], completed: Completed) -> None:
        self.where = where
        self.argv = tuple(argv)
        self.completed = completed
        text = (completed.stderr.strip() or completed.stdout.strip())[-2000:]
        super().__init__(f"{where}: {' '.join(argv)!r} ended with {completed.returncode}: {text}")
