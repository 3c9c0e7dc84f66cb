"""docs/api.md: the field reference, from the same schemas as the CRDs."""

from collections.abc import Iterable, Iterator
from typing import Any

from lvs_dr.api import kinds

_INTRODUCTION = f"""\
<!-- generated: make crds -->
# Field reference

API group `{kinds.GROUP}`, version `{kinds.VERSION}`. The same text is in `kubectl explain KIND.FIELD`.
Users write VirtualService, RealServer and DirectorGroup. DirectorTable and LVSNode are compiled by the controller:
they are here for those who want to see what the agents see.

`[]` after a name means a list, `*` each entry of a map.
"""

Section = tuple[kinds.Kind, str, dict[str, Any], dict[str, Any] | None]


def markdown(sections: Iterable[Section]) -> str:
    """Return the reference as Markdown."""
    return "\n".join([_INTRODUCTION, *(_section(*section) for section in sections)])


def _section(kind: kinds.Kind, description: str, spec: dict[str, Any], status: dict[str, Any] | None) -> str:
    shortest = kind.short_names[0] if kind.short_names else kind.singular
    lines = [
        f"## {kind.kind}\n",
        f"{description}\n",
        f"{str(kind.scope).lower()} · `kubectl get {shortest}` · `kubectl get {kinds.CATEGORY}`\n",
        *_table("spec", spec),
    ]
    if status is not None:
        lines += _table("status", status)
    return "\n".join(lines)


def _table(name: str, schema: dict[str, Any]) -> list[str]:
    rows = [f"| `{path}` | {kind} | {text} |" for path, kind, text in _fields(name, schema)]
    about = f"{schema['description']}{_refusals(schema)}\n"
    return [f"### {name}\n", about, "| field | type | meaning |", "|---|---|---|", *rows, ""]


def _fields(path: str, schema: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    required = schema.get("required", [])
    for name, each in schema.get("properties", {}).items():
        here = f"{path}.{name}" + ("[]" if each["type"] == "array" else "")
        text = each["description"]
        if name in required and path.startswith("spec"):
            text += " **Required.**"
        text += _refusals(each)
        yield here, _type(each), text.replace("|", "\\|")
        yield from _fields(here, each.get("items", each))


def _refusals(schema: dict[str, Any]) -> str:
    """Return the messages of the rules on a field and on its items."""
    rules = schema.get("x-kubernetes-validations", []) + schema.get("items", {}).get("x-kubernetes-validations", [])
    return "".join(f" *Else refused:* {rule['message']}." for rule in rules)


def _type(schema: dict[str, Any]) -> str:
    kind = str(schema["type"])
    if kind == "array":
        return f"list of {_type(schema['items'])}, {_range(schema.get('minItems', 0), schema['maxItems'])}"
    if "enum" in schema:
        return " \\| ".join(f"`{value}`" for value in schema["enum"])
    if "additionalProperties" in schema:
        return f"map of strings, at most {schema['maxProperties']}"
    if kind == "integer" and "maximum" in schema:
        return f"integer, {schema['minimum']} to {schema['maximum']}"
    if kind == "string":
        return f"string, at most {schema['maxLength']}"
    return kind


def _range(low: int, high: int) -> str:
    return f"{low} to {high}" if low else f"at most {high}"
