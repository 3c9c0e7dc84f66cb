"""JSON Schema, as pydantic and msgspec write it, to the structural schema that a CRD may hold.

What cannot be expressed structurally, would change users' objects, or leaves something unbounded or unexplained is
an error here and not a surprise on the API server:

    SchemaError        the schema of a model cannot become part of a CRD; names the field

Structural schemas: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

import inspect
from typing import Any

import msgspec
from pydantic import BaseModel

JsonSchema = dict[str, Any]

_MEANINGLESS = frozenset({"title", "examples", "deprecated", "writeOnly", "readOnly", "$defs"})
_HANDLED_ELSEWHERE = _MEANINGLESS | {"type", "properties", "additionalProperties", "items"}
_COPIED = frozenset(
    {"default", "enum", "minimum", "maximum", "minLength", "maxLength", "pattern", "minItems", "maxItems"}
    | {"minProperties", "maxProperties", "required", "format"}
)
_FORMATS = frozenset({"int32", "int64", "date-time"})  # others: the API server warns, or ignores them
_EXTENSIONS = frozenset(
    {"x-kubernetes-validations", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type"}
)
_TYPE_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number"}


class SchemaError(Exception):
    """A model's schema cannot become part of a CRD."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")


def of_model(model: type[BaseModel], name: str) -> JsonSchema:
    """Return the structural schema of a pydantic model; `name` stands in errors. Raises SchemaError."""
    return _Converter(model.model_json_schema(by_alias=True), for_users=True).convert(name)


def of_struct(struct: type[msgspec.Struct], name: str) -> JsonSchema:
    """Return the structural schema of a msgspec struct; `name` stands in errors. Raises SchemaError.

    Defaults are left out: compiled objects are written and read with the same structs, which know them, and objects
    stay as small in etcd as they were written.
    """
    return _Converter(msgspec.json.schema(struct), for_users=False).convert(name)


class _Converter:
    """Converts one document; `$ref`s point into its `$defs`."""

    def __init__(self, document: JsonSchema, *, for_users: bool) -> None:
        self._document = document
        self._definitions: dict[str, JsonSchema] = document.get("$defs", {})
        self._for_users = for_users

    def convert(self, name: str) -> JsonSchema:
        return self._node(self._document, name, (), in_list=False)

    def _node(self, raw: JsonSchema, path: str, inside: tuple[str, ...], *, in_list: bool) -> JsonSchema:
        """Convert one schema. `inside`: definitions being expanded; `in_list`: below list items."""
        schema, inside = self._resolve(raw, path, inside)
        kind = _type(schema, path)
        out: JsonSchema = {"type": kind}
        for keyword, value in schema.items():
            out |= _keyword(keyword, value, kind, path)
        self._default(out, path, in_list=in_list)
        self._children(schema, out, path, inside, in_list=in_list)
        _check_bounds(out, path)
        return _ordered(out)

    def _resolve(self, schema: JsonSchema, path: str, inside: tuple[str, ...]) -> tuple[JsonSchema, tuple[str, ...]]:
        """Put `$ref`s and Optionals in place; what stands beside them (a description, a default) wins."""
        while True:
            schema = dict(schema)
            if "$ref" in schema:
                name = schema.pop("$ref").removeprefix("#/$defs/")
                if name in inside:
                    raise SchemaError(path, f"{name} contains itself: a CRD cannot be recursive")
                schema, inside = {**self._definitions[name], **schema}, (*inside, name)
            elif "anyOf" in schema or "allOf" in schema:
                schema = _only_branch(schema, path)
            else:
                return schema, inside

    def _default(self, out: JsonSchema, path: str, *, in_list: bool) -> None:
        default = out.get("default")
        if not self._for_users or default in (None, [], {}):
            # "Nothing" needs no default: the field is simply absent.
            out.pop("default", None)
        elif in_list:
            raise SchemaError(path, "a default inside a list item makes every client-side apply report a change")

    def _children(
        self, schema: JsonSchema, out: JsonSchema, path: str, inside: tuple[str, ...], *, in_list: bool
    ) -> None:
        if out["type"] == "array":
            if not isinstance(schema.get("items"), dict):
                raise SchemaError(path, "a list needs one schema for all its items")
            out["items"] = self._node(schema["items"], f"{path}[]", inside, in_list=True)
            if out["items"]["type"] == "object":
                _check_described(out["items"], f"{path}[]")
        properties: JsonSchema = schema.get("properties", {})
        additional = schema.get("additionalProperties", False)
        if properties:
            out["properties"] = {
                name: self._node(each, f"{path}.{name}", inside, in_list=in_list) for name, each in properties.items()
            }
            for name, each in out["properties"].items():
                _check_described(each, f"{path}.{name}")
        if isinstance(additional, dict):
            if properties:
                raise SchemaError(path, "properties and additionalProperties exclude each other")
            out["additionalProperties"] = self._node(additional, f"{path}.*", inside, in_list=True)
        elif additional:
            raise SchemaError(path, "free-form objects are not bounded")
        elif not properties and out["type"] == "object" and self._for_users:
            # Server-side apply does not know a typo in an object without properties; this refuses it.
            out["maxProperties"] = 0


def _keyword(keyword: str, value: Any, kind: str, path: str) -> JsonSchema:  # noqa: ANN401 - any JSON
    """Return what one keyword becomes; nested schemas are the caller's."""
    if keyword == "format" and value not in _FORMATS:
        raise SchemaError(path, f"format {value!r} means nothing to the API server: use a CEL rule")
    if keyword in _COPIED | _EXTENSIONS:
        return {keyword: value}
    if keyword == "description":
        return {keyword: " ".join(inspect.cleandoc(value).split())}
    if keyword in ("exclusiveMinimum", "exclusiveMaximum"):
        return _exclusive(keyword, value, kind)
    if keyword == "const":
        return {"enum": [value]}
    if keyword == "uniqueItems":
        return {"x-kubernetes-list-type": "set"}
    if keyword not in _HANDLED_ELSEWHERE:
        raise SchemaError(path, f"keyword {keyword!r} is not structural")
    return {}


def _type(schema: JsonSchema, path: str) -> str:
    if isinstance(schema.get("type"), str):
        return str(schema["type"])
    values = [schema["const"]] if "const" in schema else schema.get("enum", [])
    types = {_TYPE_NAMES.get(type(value)) for value in values}
    if len(types) != 1 or None in types:
        raise SchemaError(path, "has no single type")
    return str(types.pop())


def _only_branch(schema: JsonSchema, path: str) -> JsonSchema:
    """Merge the one branch of anyOf/allOf that is not null into the schema around it. Nothing becomes nullable."""
    branches = [each for each in schema.pop("anyOf", []) + schema.pop("allOf", []) if each.get("type") != "null"]
    if len(branches) != 1:
        raise SchemaError(path, "a union is not structural: use optional members and a rule that says exactly one")
    return {**branches[0], **schema}


def _exclusive(keyword: str, value: float, kind: str) -> JsonSchema:
    """JSON Schema's numeric form to OpenAPI v3.0's: the next integer, or a bound with a flag."""
    bound = "minimum" if keyword == "exclusiveMinimum" else "maximum"
    if kind == "integer":
        return {bound: int(value) + (1 if bound == "minimum" else -1)}
    return {bound: value, keyword: True}


def _check_bounds(out: JsonSchema, path: str) -> None:
    """Everything is bounded: an object's size, and the cost of the CEL rules on it."""
    if out["type"] == "string" and "maxLength" not in out and "enum" not in out:
        raise SchemaError(path, "a string needs a maximum length")
    if out["type"] == "array" and "maxItems" not in out:
        raise SchemaError(path, "a list needs a maximum number of items")
    if "additionalProperties" in out and "maxProperties" not in out:
        raise SchemaError(path, "a map needs a maximum number of entries")


def _check_described(out: JsonSchema, path: str) -> None:
    if not out.get("description"):
        raise SchemaError(path, "needs a description: it is what kubectl explain prints")


_ORDER = ("description", "type", "format", "enum", "default", "required")


def _ordered(out: JsonSchema) -> JsonSchema:
    """Keywords in one order, so that the files are stable; an empty `required` says nothing."""
    if not out.get("required"):
        out.pop("required", None)
    last = ("properties", "items", "additionalProperties")
    middle = sorted(key for key in out if key not in _ORDER and key not in last)
    return {key: out[key] for key in (*_ORDER, *middle, *last) if key in out}
