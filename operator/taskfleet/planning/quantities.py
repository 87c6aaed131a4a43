"""Kubernetes quantities: `1.5Gi`, `500m`, `2`. Exact, by https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/."""

import re
from fractions import Fraction
from functools import lru_cache
from math import ceil

_PATTERN = re.compile(r"(\d+(?:\.\d+)?)([munkKMGTPE]|[KMGTPE]i)?")
_FACTORS = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(1000),
    **{letter: Fraction(1000 ** (power + 2)) for power, letter in enumerate("MGTPE")},
    **{f"{letter}i": Fraction(1024 ** (power + 1)) for power, letter in enumerate("KMGTPE")},
}


@lru_cache(maxsize=4096)
def parse(text: str) -> Fraction:
    """The number that a quantity stands for. Raises ValueError with the text where it is none."""
    match = _PATTERN.fullmatch(text)
    if match is None or (match[2] or "") not in _FACTORS:
        raise ValueError(f"{text!r} is not a quantity")
    return Fraction(match[1]) * _FACTORS[match[2] or ""]


def in_bytes(text: str) -> int:
    """The quantity as whole bytes; a fraction of a byte counts as one. Raises ValueError as `parse` does."""
    return ceil(parse(text))
