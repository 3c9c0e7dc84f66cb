"""Objects on an API server, written and read as the controller, the agents and people do."""

from dataclasses import dataclass
from typing import Any

from lvs_dr.api import kinds
from lvs_dr.core.status import Condition, ConditionStatus
from lvs_lab.controlplane import LocalControlPlane
from lvs_lab.spec import Completed

SERVER_SIDE = ("--server-side", "--force-conflicts", "--field-manager=test-crds")


@dataclass(frozen=True)
class Objects:
    """Objects of our kinds, in one namespace where they have one."""

    server: LocalControlPlane
    namespace: str

    def kubectl(self, *argv: str, check: bool = True) -> Completed:
        """Run kubectl in the namespace."""
        return self.server.kubectl(*argv, f"--namespace={self.namespace}", check=check)

    def path(self, kind: kinds.Kind, name: str = "", *, status: bool = False) -> str:
        """URL path of an object, or of all of them."""
        inside = f"/namespaces/{self.namespace}" if kind.namespaced else ""
        parts = [name, "status" if status else ""]
        return "/".join([f"/apis/{kinds.API_VERSION}{inside}/{kind.plural}", *filter(None, parts)])

    def apply(self, kind: kinds.Kind, name: str, **content: Any) -> dict[str, Any]:
        """Write spec or status by server-side apply, unknown fields refused; return what is stored."""
        (part,) = content
        body = {"apiVersion": kinds.API_VERSION, "kind": kind.kind, "metadata": {"name": name}} | content
        code, answer = self.server.api(
            "PATCH",
            self.path(kind, name, status=part == "status") + "?fieldManager=lvs-test&force=true&fieldValidation=Strict",
            body,
            content_type="application/apply-patch+yaml",
            timeout=60,
        )
        assert code in (200, 201), answer["message"]
        stored: dict[str, Any] = answer
        return stored


def conditions(**values: str) -> tuple[Condition, ...]:
    """Conditions with these statuses."""
    return tuple(
        Condition(
            type=kind,
            status=ConditionStatus(status),
            reason=f"{kind}Reason",
            message=f"about {kind}",
            observed_generation=1,
            last_transition_time="2026-01-01T00:00:00Z",
        )
        for kind, status in values.items()
    )
