"""JSON of the API server, whatever its depth.

Any tenant may hand in an object whose `metadata.managedFields` is nested thousands of levels deep, and the API server keeps it. No parser here reads that: without a bound one such
object would keep the list of all others from being read. What is nested deeper than anything real becomes null.
"""

import re
from typing import Any

import orjson

# Kubernetes' own objects have about twenty levels, and their field sets as many.
MAX_LEVELS = 200
# Whatever has fewer brackets is not too deep for any parser, Python's own included.
_FEW_BRACKETS = 600

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\]]', re.DOTALL)


def loads(text: bytes) -> Any:
    """Parsed, with null for what is nested too deep. Raises orjson.JSONDecodeError."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return orjson.loads(cut(text))


def cut(text: bytes) -> bytes:
    """The text with null for each object and array that is nested deeper than MAX_LEVELS."""
    if text.count(b"{") + text.count(b"[") <= _FEW_BRACKETS:
        return text
    kept: list[bytes] = []
    level, begin = 0, 0
    for token in _TOKEN.finditer(text):
        match token[0]:
            case b"{" | b"[":
                level += 1
                if level == MAX_LEVELS + 1:
                    kept.append(text[begin : token.start()])
            case b"}" | b"]":
                level -= 1
                if level == MAX_LEVELS:
                    kept.append(b"null")
                    begin = token.end()
    return b"".join((*kept, text[begin:]))
