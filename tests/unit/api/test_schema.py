"""The generator accepts what a CRD can hold and names what it cannot."""

from decimal import Decimal
from enum import StrEnum
from ipaddress import IPv4Network
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta
from pydantic import BaseModel, Field, SecretStr, create_model

from lvs_dr.api import schema

TEXT = "A field."


def converted(annotation: Any, default: Any = ...) -> dict[str, Any]:
    """The schema of a model with one field of this type."""
    model = create_model("Model", field=(annotation, default))
    found: dict[str, Any] = schema.of_model(model, "Kind.spec")["properties"]["field"]
    return found


def described(annotation: Any, **options: Any) -> Any:
    """A type with a description and bounds."""
    return Annotated[annotation, Field(description=TEXT, **options)]


class Recursive(BaseModel):
    below: Annotated[list["Recursive"], Field(max_length=1, description=TEXT)] = []


class Loose(BaseModel):
    """Any fields."""

    model_config = {"extra": "allow"}


class Closed(BaseModel):
    """One field."""

    model_config = {"extra": "forbid"}
    name: Annotated[str, Field(max_length=3, description=TEXT)] = "abc"


class Colour(StrEnum):
    RED = "Red"


@pytest.mark.parametrize(
    ("annotation", "problem"),
    [
        (described(str), "maximum length"),
        (described(list[int]), "maximum number of items"),
        (described(dict[str, int]), "maximum number of entries"),
        (Annotated[str, Field(max_length=3)], "description"),
        (described(int | str), "union"),
        (described(Closed | Loose), "union"),
        (described(tuple[int, int], max_length=2), "not structural"),
        (described(Any), "no single type"),
        (described(Literal["a", 1]), "no single type"),
        (described(Decimal), "union"),
        (described(IPv4Network), "ipv4network"),
        (described(bytes, max_length=3), "binary"),
        (described(dict[Annotated[str, Field(pattern="^a")], int], max_length=3), "not structural"),
        (described(Loose), "free-form"),
        (described(list[Closed], max_length=2), "inside a list item"),
        (described(Recursive), "contains itself"),
    ],
)
def test_what_is_not_structural_is_an_error_that_names_the_field(annotation: Any, problem: str) -> None:
    """A developer learns it from the generator, not from a user whose API server refuses the CRD."""
    with pytest.raises(schema.SchemaError, match=rf"^Kind\.spec\.field.*{problem}"):
        converted(annotation)


@pytest.mark.parametrize(
    ("annotation", "default", "expected"),
    [
        (described(int | None, ge=1), None, {"type": "integer", "minimum": 1}),
        (described(Literal["a"]), ..., {"type": "string", "enum": ["a"]}),
        (described(Colour), Colour.RED, {"type": "string", "enum": ["Red"], "default": "Red"}),
        (described(int, gt=0, lt=10), ..., {"type": "integer", "minimum": 1, "maximum": 9}),
        (described(float, gt=0), ..., {"type": "number", "minimum": 0, "exclusiveMinimum": True}),
        (described(bool), False, {"type": "boolean", "default": False}),
        (described(SecretStr, max_length=9, deprecated=True, examples=["a"]), ..., None),
        (described(Closed | None), None, {"type": "object", "properties": {"name": {"maxLength": 3}}}),
    ],
)
def test_what_pydantic_writes_becomes_structural(
    annotation: Any, default: Any, expected: dict[str, Any] | None
) -> None:
    """Optionals, single literals and exclusive bounds take the form that the API server accepts."""
    if expected is None:
        # A secret carries `format: password`, which means nothing here.
        with pytest.raises(schema.SchemaError, match="password"):
            converted(annotation, default)
        return
    found = converted(annotation, default)
    assert found.pop("description") == TEXT
    if "properties" in found:
        found["properties"]["name"] = {"maxLength": found["properties"]["name"]["maxLength"]}
    assert found == expected


def test_sets_and_empty_objects() -> None:
    """A set is a list-type; an object without fields stays, and takes none that it does not know."""
    found = converted(described(set[Annotated[str, Field(max_length=3)]], max_length=2))
    assert found["x-kubernetes-list-type"] == "set"

    class Empty(BaseModel):
        """Nothing to set."""

    assert converted(Annotated[Empty, Field(description=TEXT)]) == {
        "description": TEXT,
        "type": "object",
        "maxProperties": 0,
    }


def test_compiled_structs_keep_no_defaults_and_empty_structs_stay() -> None:
    """What the controller writes is what etcd holds: nothing is added by the server, nothing is pruned."""

    class Empty(msgspec.Struct, rename="camel"):
        """Nothing to set."""

    class Item(msgspec.Struct, rename="camel"):
        """An item."""

        colour: Annotated[Colour, Meta(description="Which.")]
        node_name: Annotated[str, Meta(max_length=3, description="Where.")] = ""

    class Spec(msgspec.Struct, rename="camel"):
        """A spec."""

        check: Annotated[Empty | None, Meta(description="How.")] = None
        items: Annotated[tuple[Item, ...], Meta(max_length=2, description="What.")] = ()

    item = {
        "description": "An item.",
        "type": "object",
        "required": ["colour"],
        "properties": {
            "colour": {"description": "Which.", "type": "string", "enum": ["Red"]},
            "nodeName": {"description": "Where.", "type": "string", "maxLength": 3},
        },
    }
    assert schema.of_struct(Spec, "Kind.spec") == {
        "description": "A spec.",
        "type": "object",
        "properties": {
            "check": {"description": "How.", "type": "object"},
            "items": {"description": "What.", "type": "array", "maxItems": 2, "items": item},
        },
    }


def test_unbounded_struct_is_an_error() -> None:
    """A compiled field without a bound is found when the CRDs are generated."""

    class Spec(msgspec.Struct):
        """A spec."""

        name: Annotated[str, Meta(description="Name.")]

    with pytest.raises(schema.SchemaError, match=r"LVSNode\.spec\.name: a string needs a maximum length"):
        schema.of_struct(Spec, "LVSNode.spec")
