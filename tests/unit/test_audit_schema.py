"""docs/audit.schema.json describes what an audit is as JSON: all of it, and nothing else."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from progloc.accounts.schema import AUDIT_SCHEMA_VERSION
from synthetic_audit import synthetic_audit

pytestmark = pytest.mark.slow

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "audit.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)


def document(**changes):
    return json.loads(synthetic_audit(**changes).to_json())


@pytest.mark.parametrize("changes", [{}, {"base": True}, {"prompt": "One block.", "verdict": "weak"}], ids=str)
def test_an_audit_is_valid(changes):
    VALIDATOR.validate(document(**changes))


def test_without_the_tokens_heads_it_is_valid_too():
    VALIDATOR.validate(json.loads(json.dumps(synthetic_audit().to_dict(heads=False))))


def test_a_schedule_by_head_is_valid():
    VALIDATOR.validate(document() | {"schedule": [[0.0, 0.5], [1.0, 1.0]]})


@pytest.mark.parametrize(
    ("where", "wrong"),
    [
        (("schema_version",), AUDIT_SCHEMA_VERSION + 1),
        (("verdict",), "true"),
        (("surprise",), 1),
        (("layers", 0, "mass", 0), 1.5),
        (("faithfulness", "top", "effect"), None),
        (("text", "answer_start"), -1),
    ],
    ids=str,
)
def test_a_wrong_document_is_refused(where, wrong):
    changed = document()
    *path, last = where
    holder = changed
    for step in path:
        holder = holder[step]
    holder[last] = wrong
    found = best_match(VALIDATOR.iter_errors(changed))
    assert tuple(found.absolute_path) == (where if last != "surprise" else ())


def test_a_missing_field_is_refused():
    for name in document():
        changed = document()
        del changed[name]
        assert not VALIDATOR.is_valid(changed), name


def described(schema, path=""):
    """Yield every property with where it is."""
    for name, each in schema.get("properties", {}).items():
        yield f"{path}.{name}", each
        yield from described(each, f"{path}.{name}")
    for name, each in schema.get("$defs", {}).items():
        yield from described(each, name)


def test_the_schema_is_one_of_this_version_and_describes_every_field():
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["schema_version"]["const"] == AUDIT_SCHEMA_VERSION
    assert {where for where, each in described(SCHEMA) if not each.get("description")} == set()
