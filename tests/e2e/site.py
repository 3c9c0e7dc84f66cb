"""A site that runs the operator with the component redirect."""

import os
from pathlib import Path

import yaml


def with_redirect(directory: Path, root: Path) -> Path:
    """Write its kustomization into a directory, and return that; all agents are replaced at once."""
    patch = '[{"op": "replace", "path": "/spec/updateStrategy/rollingUpdate/maxUnavailable", "value": "100%"}]'
    content = {
        "resources": [os.path.relpath(root / "manifests/base", directory)],
        "components": [os.path.relpath(root / "manifests/components/redirect", directory)],
        "patches": [{"target": {"kind": "DaemonSet", "name": "lvs-agent"}, "patch": patch}],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return directory
