"""Generator of the CRDs in crds/ and of docs/api.md, from the models in `api.models` and the structs in `core`.

`python -m lvs_dr.api.crd` (`make crds`) writes crds/*.yaml and docs/api.md; with `--check` it writes nothing and fails
when a file is not what would be written; with `--docs` it writes docs/api.md alone.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import yaml

from lvs_dr.api import kinds, reference, schema
from lvs_dr.api.columns import COLUMNS
from lvs_dr.api.models import director_group, real_server, virtual_service
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.node_status import LVSNodeStatus
from lvs_dr.core.status import DirectorGroupStatus, RealServerStatus, VirtualServiceStatus
from lvs_dr.core.table import DirectorTableSpec

HEADER = "# generated: make crds\n"
REMEDY = "run: make crds"
LINE_LENGTH = 110


class Definition(NamedTuple):
    """What makes one CRD."""

    kind: kinds.Kind
    description: str
    spec: dict[str, Any]
    status: dict[str, Any] | None
    selectable: tuple[str, ...] = ()


_TABLE_DESCRIPTION = (
    "A DirectorTable is a compiled VirtualService: exactly what every director of a group must serve. It is written"
    " by the controller, read by the agents and deleted with its VirtualService. Do not edit it: edits are undone."
)
_NODE_DESCRIPTION = (
    "An LVSNode says what one node must be (spec, by the controller) and what it is (status, by the agent on that"
    " node alone). It is named like its Node and deleted with it. Do not edit it: edits are undone."
)


def _status(struct: type[msgspec.Struct], kind: kinds.Kind) -> dict[str, Any]:
    return schema.of_struct(struct, f"{kind.kind}.status")


def definitions() -> tuple[Definition, ...]:
    """Return what the five CRDs are made of. Raises SchemaError when a model cannot become one."""
    service, server, group = kinds.USER_KINDS
    return (
        Definition(
            service,
            virtual_service.KIND_DESCRIPTION,
            schema.of_model(virtual_service.VirtualServiceSpec, f"{service.kind}.spec"),
            _status(VirtualServiceStatus, service),
        ),
        Definition(
            server,
            real_server.KIND_DESCRIPTION,
            schema.of_model(real_server.RealServerSpec, f"{server.kind}.spec"),
            _status(RealServerStatus, server),
        ),
        Definition(
            group,
            director_group.KIND_DESCRIPTION,
            schema.of_model(director_group.DirectorGroupSpec, f"{group.kind}.spec"),
            _status(DirectorGroupStatus, group),
        ),
        Definition(
            kinds.DIRECTOR_TABLE,
            _TABLE_DESCRIPTION,
            schema.of_struct(DirectorTableSpec, "DirectorTable.spec"),
            None,
            selectable=(".spec.directorGroup",),
        ),
        Definition(
            kinds.LVS_NODE,
            _NODE_DESCRIPTION,
            schema.of_struct(LVSNodeSpec, "LVSNode.spec"),
            _status(LVSNodeStatus, kinds.LVS_NODE),
        ),
    )


def custom_resource_definition(definition: Definition) -> dict[str, Any]:
    """Return the CustomResourceDefinition manifest of one kind."""
    kind = definition.kind
    names: dict[str, Any] = {
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "singular": kind.singular,
    }
    if kind.short_names:
        names["shortNames"] = list(kind.short_names)
    names["categories"] = [kinds.CATEGORY]
    version: dict[str, Any] = {"name": kinds.VERSION, "served": True, "storage": True}
    if definition.status is not None:
        version["subresources"] = {"status": {}}
    if definition.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in definition.selectable]
    version["additionalPrinterColumns"] = COLUMNS[kind]
    version["schema"] = {"openAPIV3Schema": _object_schema(definition)}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.crd_name, "labels": {"app.kubernetes.io/part-of": "lvs-operator"}},
        "spec": {"group": kinds.GROUP, "names": names, "scope": str(kind.scope), "versions": [version]},
    }


def _object_schema(definition: Definition) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "apiVersion": {"description": f"Always {kinds.API_VERSION}.", "type": "string"},
        "kind": {"description": f"Always {definition.kind.kind}.", "type": "string"},
        "metadata": {"type": "object"},
        "spec": definition.spec,
    }
    if definition.status is not None:
        properties["status"] = definition.status
    return {
        "description": definition.description,
        "type": "object",
        "required": ["spec"],
        "properties": properties,
    }


class _Dumper(yaml.SafeDumper):
    """Indents lists below their key, never writes aliases, keeps the order of keys."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def manifest_text(definition: Definition) -> str:
    """Return the file that holds one CRD."""
    document = custom_resource_definition(definition)
    return HEADER + yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=LINE_LENGTH)


def files(*, manifests: bool = True) -> dict[str, str]:
    """Return path (relative to the repository) and content of everything generated."""
    made = definitions()
    out = {"docs/api.md": reference.markdown([(each.kind, each.description, each.spec, each.status) for each in made])}
    if manifests:
        out |= {f"crds/{each.kind.plural}.yaml": manifest_text(each) for each in made}
    return out


def stale(root: Path) -> list[str]:
    """Return what differs from what would be generated, by path, and files that nothing generates."""
    wanted = files()
    differing = [
        path
        for path, text in wanted.items()
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != text
    ]
    found = {f"crds/{path.name}" for path in (root / "crds").glob("*.yaml")} - {"crds/kustomization.yaml"}
    return sorted(differing + list(found - set(wanted)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the generator; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lvs_dr.api.crd", description="Generate crds/ and docs/api.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is out of date")
    parser.add_argument("--docs", action="store_true", help="write docs/api.md alone")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository (default: the current directory)")
    options = parser.parse_args(argv)
    if options.check:
        outdated = stale(options.root)
        for path in outdated:
            sys.stderr.write(f"{path} is not what the models say: {REMEDY}\n")
        return 1 if outdated else 0
    for path, text in files(manifests=not options.docs).items():
        target = options.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
