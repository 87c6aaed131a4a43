"""Text of any depth is read, and nothing but the depth is lost."""

import json

import orjson
import pytest

from taskfleet.kube import nesting


def deep(levels: int, *, opening: str = '{"f:a":', closing: str = "}") -> str:
    return opening * levels + "1" + closing * levels


@pytest.mark.parametrize("levels", [1_100, 9_990, 300_000])
@pytest.mark.parametrize(("opening", "closing"), [('{"f:a":', "}"), ("[", "]")])
def test_the_neighbours_of_what_is_too_deep_are_read_whole(levels: int, opening: str, closing: str) -> None:
    text = '{"items": [{"name": "a", "x": ' + deep(levels, opening=opening, closing=closing) + ', "y": "after"}, {"name": "b"}]}'
    first, second = nesting.loads(text.encode())["items"]
    assert (first["name"], first["y"], second) == ("a", "after", {"name": "b"})
    # Python's own parser, which others use, reads what is left.
    assert json.loads(nesting.cut(text.encode()))["items"][1] == {"name": "b"}


def test_brackets_and_quotes_within_texts_are_no_nesting() -> None:
    value = {"text": "{[" * 5_000 + '"\\', "more": ["\\" * 3, '\\"{', "\u2028{"]}
    text = json.dumps([value] * 300).encode()
    assert nesting.cut(text) == text
    deeper = b'{"x": %s, "value": %s}' % (deep(2_000).encode(), json.dumps(value).encode())
    assert nesting.loads(deeper)["value"] == value


def test_what_is_not_too_deep_is_left_as_it_is() -> None:
    text = json.dumps([json.loads(deep(nesting.MAX_LEVELS - 1))] * 3).encode()
    assert nesting.cut(text) == text
    kept = json.loads(nesting.cut(b"[%s, %s]" % (deep(nesting.MAX_LEVELS).encode(), deep(500).encode())))
    assert json.dumps(kept).count("null") == 2, "one level more, each"


def test_what_is_no_json_stays_an_error() -> None:
    with pytest.raises(orjson.JSONDecodeError):
        nesting.loads(b"<html>" + b"[" * 2_000)
