"""Which texts pass as JSON Schema, and that none of them can hurt the operator."""

import pytest

from taskfleet.planning.schematext import fault

OBJECT = '{"type": "object", "properties": {"total": {"type": "string"}}, "required": ["total"]}'


@pytest.mark.parametrize(
    "text",
    [
        OBJECT,
        "type: object\nproperties:\n  total: {type: string}\n",
        "{}",
        '{"$schema": "http://json-schema.org/draft-07/schema#", "type": "integer"}',
        '{"$schema": "https://example.com/unknown", "type": "integer"}',
    ],
)
def test_schemas_in_json_and_yaml_pass(text: str) -> None:
    assert fault(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"type": "objekt"}', "not a JSON Schema"),
        ('{"properties": []}', "not a JSON Schema"),
        ('{"minLength": -1}', "not a JSON Schema"),
        ('"text"', "is an object"),
        ("[1, 2]", "is an object"),
        ("true", "is an object"),
        ('{"$schema": []}', "$schema"),
        ("{unbalanced", "neither JSON nor YAML"),
        ("a: *b", "aliases"),
        ("when: 2024-01-01", "not JSON data"),
        ("when: 2024-99-99", "not JSON data"),
        ('{"minimum": ' + "9" * 5000 + "}", "not JSON data"),
        ("? [a, b]\n: 1", "neither JSON nor YAML"),
        ("!!python/object/apply:os.system ['true']", "neither JSON nor YAML"),
    ],
)
def test_other_texts_are_refused_in_words(text: str, words: str) -> None:
    assert words in (fault(text) or "passed")


def test_alias_bomb_is_refused_at_once() -> None:
    levels = ["a0: &a0 {type: string}"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 20)]
    assert "aliases" in (fault("\n".join(levels)) or "passed")


@pytest.mark.parametrize("text", ["[" * 8000 + "]" * 8000, '{"not":' * 2000 + "{}" + "}" * 2000])
def test_deep_nesting_is_refused(text: str) -> None:
    assert fault(text) is not None


def test_refusal_is_one_short_line() -> None:
    reason = fault('{"type": "' + "x" * 10_000 + '"}')
    assert reason is not None
    assert "\n" not in reason
    assert len(reason) < 500
