r"""Golden sets: JSON Lines, one example a line, read from a file that anybody may have written.

    {"messages": [{"role": "user", "content": "by Acme, total 3.50"}], "expected": "3.50"}
    {"id": "acme", "input": {"line": "by Acme, total 3.50"}, "expected": {"vendor": "Acme", "total": 3.5}}
    {"prompt": "by Acme, total 3.50 ->", "pattern": "[0-9]+\\.[0-9]{2}"}

Exactly one of `messages` (a chat), `input` (a user's message; what is no text goes as JSON) and `prompt` (a text completion) says what is asked. `expected` (text or JSON) or
`pattern` says what is right; which of them is needed is the metric's to say. Other fields are ignored.
"""

import hashlib
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from taskfleet.api.taskmodel import Metric
from taskfleet.evaluation.scorers import number, pattern_fault

MAX_BYTES = 16 * 1024 * 1024
MAX_LINE_BYTES = 256 * 1024
MAX_EXAMPLES = 100_000
MAX_ID_LENGTH = 128

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_QUESTIONS = ("messages", "input", "prompt")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class GoldenSetError(Exception):
    """The text is no golden set, or none for this metric; the message names the line, from 1."""


class _LineError(Exception):
    """What is wrong with one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """What is asked, at which address of the API and with which fields of the body, and what is right. `expected` of None: nothing is said."""

    id: str
    path: str
    question: dict[str, Any]
    expected: Any = None
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """`digest` is that of the text."""

    digest: str
    examples: tuple[Example, ...]


def digest_of(text: bytes) -> str:
    """What reports name a golden set by."""
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def parse(text: bytes, *, metric: Metric) -> GoldenSet:
    """Raises GoldenSetError, also where an example lacks what the metric needs."""
    if len(text) > MAX_BYTES:
        raise GoldenSetError(f"the golden set is larger than {MAX_BYTES} bytes")
    examples: dict[str, Example] = {}
    for index, line in _lines(text):
        if len(examples) >= MAX_EXAMPLES:
            raise GoldenSetError(f"the golden set has more than {MAX_EXAMPLES} examples")
        try:
            example = _checked(_example(line, index), metric, taken=examples.keys())
        except _LineError as error:
            raise GoldenSetError(f"line {index}: {error}") from None
        examples[example.id] = example
    if not examples:
        raise GoldenSetError("the golden set has no examples")
    return GoldenSet(digest_of(text), tuple(examples.values()))


def _lines(text: bytes) -> Iterator[tuple[int, bytes]]:
    for index, line in enumerate(text.removeprefix(_BYTE_ORDER_MARK).split(b"\n"), start=1):
        if line.strip():
            yield index, line


def _example(line: bytes, index: int) -> Example:
    if len(line) > MAX_LINE_BYTES:
        raise _LineError(f"is longer than {MAX_LINE_BYTES} bytes")
    try:
        content = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _LineError(f"no JSON: {error.msg} at character {error.pos + 1}") from None
    if not isinstance(content, dict):
        raise _LineError("an example is a JSON object")
    path, question = _question(content)
    pattern = content.get("pattern")
    if pattern is not None and (not isinstance(pattern, str) or (fault := pattern_fault(pattern))):
        raise _LineError(f"'pattern' is no regular expression: {fault if isinstance(pattern, str) else 'it is no text'}")
    return Example(id=_id(content, index), path=path, question=question, expected=content.get("expected"), pattern=pattern)


def _id(content: dict[str, Any], index: int) -> str:
    given = content.get("id", f"line-{index}")
    text = str(given) if isinstance(given, (str, int)) and not isinstance(given, bool) else ""
    if not 0 < len(text) <= MAX_ID_LENGTH or not text.isprintable():
        raise _LineError(f"'id' must be a printable text of at most {MAX_ID_LENGTH} characters, or a whole number")
    return text


def _question(content: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    given = [name for name in _QUESTIONS if content.get(name) is not None]
    if len(given) != 1:
        raise _LineError("exactly one of 'messages', 'input' and 'prompt' must be set")
    value = content[given[0]]
    if given[0] == "messages":
        return "/chat/completions", {"messages": _messages(value)}
    if given[0] == "input":
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        return "/chat/completions", {"messages": [{"role": "user", "content": text}]}
    if not isinstance(value, str) or not value:
        raise _LineError("'prompt' must be a text")
    return "/completions", {"prompt": value}


def _messages(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value:
        raise _LineError("'messages' must be a list of at least one message")
    for message in value:
        if not isinstance(message, dict) or message.get("role") not in _ROLES or not isinstance(message.get("content"), (str, list)):
            raise _LineError(f"each of 'messages' needs a 'role' ({', '.join(sorted(_ROLES))}) and a 'content'")
    return value


def _checked(example: Example, metric: Metric, *, taken: Container[str]) -> Example:
    if example.id in taken:
        raise _LineError(f"another example has the id {example.id!r}, too")
    match metric:
        case Metric.EXACT_MATCH if example.expected is None:
            raise _LineError("metric ExactMatch needs 'expected'")
        case Metric.FIELD_F1 if not isinstance(example.expected, (dict, list)):
            raise _LineError("metric FieldF1 needs a JSON object or array as 'expected'")
        case Metric.REGEX if example.pattern is None:
            raise _LineError("metric Regex needs 'pattern'")
        case Metric.NUMERIC_TOLERANCE if number(example.expected) is None:
            raise _LineError("metric NumericTolerance needs a number as 'expected'")
        case _:
            return example
