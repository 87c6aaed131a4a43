"""Scorers: how good one answer is, from 0 to 1. Pure functions, one for each metric that needs nobody's opinion (`judge` has the other).

Answers come from models and may be anything; golden sets and schemas come from tenants. JSON is read strictly: what is around it, a code fence too, makes it none, because a
client would stumble over it as well. A pattern that backtracks without end is stopped from outside (`cpu_limit`); here only sizes are bounded.
"""

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import orjson

from taskfleet.api.taskmodel import Metric

MAX_PATTERN_LENGTH = 1024
MAX_MATCHED_LENGTH = 16_384  # characters of an answer that a pattern is held against; a longer one matches none

# Not what Python's float() reads beside it ("1_000", "nan"), and no exponent that makes arithmetic slow.
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")
_MISSING = object()  # JSON has a null of its own


def exact_match(answer: str, expected: Any) -> float:
    """1 for the expected text but for white space; where JSON other than a text is expected, for the same JSON, however it is written. 0 otherwise."""
    if isinstance(expected, str):
        return float(_normalised(answer) == _normalised(expected))
    found = _json(answer)
    return float(found is not _MISSING and _same(found, expected))


def json_schema(answer: str, follows: Callable[[Any], bool]) -> float:
    """1 for JSON that follows the schema; `follows` is `output_schema.OutputSchema.allows`. 0 otherwise."""
    found = _json(answer)
    return float(found is not _MISSING and follows(found))


def field_f1(answer: str, expected: Any) -> float:
    """The F1 measure over the leaves of two JSON documents: 2·c / (a + e), with a leaves in the answer, e expected ones, and c that both have at the same path.

    An empty object or array is a leaf. 0 for what is no JSON.
    """
    found = _json(answer)
    if found is _MISSING:
        return 0.0
    given, wanted = dict(_leaves(found)), dict(_leaves(expected))
    common = sum(1 for path, leaf in wanted.items() if path in given and _same(given[path], leaf))
    return 2 * common / (len(given) + len(wanted))


def regex(answer: str, pattern: str) -> float:
    """1 where the pattern (Python's syntax) matches the whole answer but for white space around it, 0 otherwise. Takes as long as the pattern wants."""
    text = answer.strip()
    return float(len(text) <= MAX_MATCHED_LENGTH and re.fullmatch(pattern, text) is not None)


def numeric_tolerance(answer: str, expected: Any, *, tolerance_percent: float) -> float:
    """1 for a number that is off by at most so many percent of the expected one, 0 otherwise."""
    found, wanted = number(answer), number(expected)
    if found is None or wanted is None:
        return 0.0
    return float(abs(found - wanted) <= abs(wanted) * Decimal(str(tolerance_percent)) / 100)


def agree(metric: Metric, answer: str, other: str, *, tolerance_percent: float = 0, follows: Callable[[Any], bool] | None = None) -> bool:
    """Do two answers to the same request come to the same by the task's metric? Quick for any answers.

    With JSONSchema: both are JSON that follows the schema (just JSON without `follows`), or neither. With FieldF1 and NumericTolerance: this answer scores 1
    where the other is expected. With the rest, and where that can't be told: the same text or JSON.
    """
    if metric is Metric.JSON_SCHEMA:
        check = follows or _anything
        return json_schema(answer, check) == json_schema(other, check)
    found = _json(other)
    if metric is Metric.NUMERIC_TOLERANCE and number(other) is not None:
        return numeric_tolerance(answer, other, tolerance_percent=tolerance_percent) == 1
    if metric is Metric.FIELD_F1 and found is not _MISSING:
        return field_f1(answer, found) == 1
    return exact_match(answer, other) == 1 or (found is not _MISSING and exact_match(answer, found) == 1)


def number(value: Any) -> Decimal | None:
    """The finite number that a JSON value or a text is; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    text = value.strip() if isinstance(value, str) else repr(value)
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def pattern_fault(pattern: str) -> str | None:
    """Why the text is no regular expression that answers are held against; None where it is one."""
    if len(pattern) > MAX_PATTERN_LENGTH:
        return f"it is longer than {MAX_PATTERN_LENGTH} characters"
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return str(error)
    return None


def _anything(_value: Any) -> bool:
    return True


def _normalised(text: str) -> str:
    return " ".join(text.split())


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):  # the latter for lone surrogates, which JSON can escape
        return _MISSING


def _same(value: Any, other: Any) -> bool:
    """JSON's own equality, but for white space in texts: 1 and 1.0 are one number, and true is none."""
    waiting = [(value, other)]
    while waiting:
        one, two = waiting.pop()
        if isinstance(one, dict) and isinstance(two, dict):
            if one.keys() != two.keys():
                return False
            waiting.extend((item, two[key]) for key, item in one.items())
        elif isinstance(one, list) and isinstance(two, list):
            if len(one) != len(two):
                return False
            waiting.extend(zip(one, two, strict=True))
        elif not _same_leaf(one, two):
            return False
    return True


def _same_leaf(one: Any, two: Any) -> bool:
    if isinstance(one, str) and isinstance(two, str):
        return _normalised(one) == _normalised(two)
    return isinstance(one, bool) == isinstance(two, bool) and bool(one == two)


def _leaves(document: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """All that is neither object nor array with something in it, by path."""
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), document)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict) and value:
            waiting.extend(((*path, key), item) for key, item in value.items())
        elif isinstance(value, list) and value:
            waiting.extend(((*path, index), item) for index, item in enumerate(value))
        else:
            yield path, value
