"""Quantities mean what Kubernetes means by them."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.planning.quantities import in_bytes, parse


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1Gi", 2**30),
        ("1G", 10**9),
        ("1.5Ki", 1536),
        ("500m", Fraction(1, 2)),
        ("100u", Fraction(1, 10_000)),
        ("7n", Fraction(7, 10**9)),
        ("1k", 1000),
        ("2Mi", 2 * 2**20),
        ("3E", 3 * 10**18),
        ("1Ei", 2**60),
        ("0", 0),
        ("64", 64),
    ],
)
def test_suffixes_are_powers_of_1000_or_1024(text: str, number: Fraction) -> None:
    assert parse(text) == number


@pytest.mark.parametrize("text", ["", "Gi", "1gi", "-1", "1e3x", "1 Gi", "1Ki ", "0x10", "1..5", "1K"])
def test_what_is_no_quantity_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse(text)


def test_a_fraction_of_a_byte_counts_as_one() -> None:
    assert in_bytes("100m") == 1


@given(number=st.integers(0, 10**6), suffix=st.sampled_from(["", "k", "M", "G", "Ki", "Mi", "Gi"]))
def test_whole_numbers_lose_nothing(number: int, suffix: str) -> None:
    assert in_bytes(f"{number}{suffix}") == number * in_bytes(f"1{suffix}")
