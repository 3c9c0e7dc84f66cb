"""What users get wrong, and what they read then."""

import json
import re
from typing import Any

import pytest

from lvs_dr.api import kinds
from tests.api.crds import refusals
from tests.api.crds.objects import Objects
from tests.api.crds.refusals import REFUSALS, Refusal

NAMESPACE = refusals.NAMESPACE
NOT_CHECKED = (
    ", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid;"
    " correct the existing errors to complete validation]"
)


@pytest.fixture(scope="module", params=["server-side", "client-side"])
def mistakes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, objects: Objects) -> Any:
    """All mistakes of the table, applied in one go: what kubectl said, and how it was asked."""
    directory = tmp_path_factory.mktemp("mistakes")
    for refusal in REFUSALS:
        (directory / f"{refusal.name}.yaml").write_text(json.dumps(refusal.manifest))
    mode = ["--server-side"] if request.param == "server-side" else []
    done = objects.kubectl("apply", *mode, f"--filename={directory}", check=False)
    assert done.returncode == 1
    assert done.stdout == "", "a mistake was accepted"
    return request.param, done.stderr


def said_about(refusal: Refusal, stderr: str) -> str:
    """What kubectl said about one object, without what names the object: one line of its output."""
    named = re.compile(rf'[/"]{re.escape(refusal.name)}(?:"|;|\.yaml")')
    (line,) = [each for each in stderr.splitlines() if named.search(each)]
    text = re.sub(r'^Error from server[^:]*: (?:error when creating "[^"]*": )?', "", line)
    text = text.removeprefix(f'{refusal.kind.kind}.{kinds.GROUP} "{refusal.name}" is invalid: ')
    return text.removeprefix("[").removesuffix(NOT_CHECKED)


@pytest.mark.parametrize("refusal", REFUSALS, ids=[each.name for each in REFUSALS])
def test_mistakes_are_refused_in_these_words(mistakes: tuple[str, str], refusal: Refusal) -> None:
    """A person who makes this mistake reads what is wrong and what to write instead."""
    mode, stderr = mistakes
    expected = refusal.client if mode == "client-side" and refusal.client else refusal.said
    assert said_about(refusal, stderr) == expected
