"""Names: readable, bounded, and never the same for different things."""

import re

from hypothesis import given
from hypothesis import strategies as st

from taskfleet import names

LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
DIGEST = "sha256:" + "0123456789abcdef" * 4


def test_engine_name_is_addressed_by_content() -> None:
    assert names.engine_name("finance", "invoice-total", DIGEST) == "finance.invoice-total.0123456789abcdef0123456789abcdef"


def test_further_pools_of_a_key_are_numbered() -> None:
    first, second = (names.pool_name("oci://r.example/models/Tiny_Invoices", ("a", "b"), index) for index in (0, 1))
    assert first.startswith("tiny-invoices-")
    assert second == f"{first}-1"


@given(source=st.text(max_size=600), key=st.lists(st.text(max_size=300), max_size=5), index=st.integers(0, 999))
def test_pool_names_are_dns_labels_of_bounded_length(source: str, key: list[str], index: int) -> None:
    name = names.pool_name(source, tuple(key), index)
    assert LABEL.match(name)
    assert len(name) <= names.POOL_NAME_LENGTH
    assert name[0].isalpha()  # a Service's name must begin with a letter


@given(left=st.lists(st.text(max_size=5), min_size=1, max_size=4), right=st.lists(st.text(max_size=5), min_size=1, max_size=4))
def test_hashes_keep_their_parts_apart(left: list[str], right: list[str]) -> None:
    joined = ["\0" in part for part in left + right]
    if left != right and not any(joined):
        assert names.short_hash(*left, length=40) != names.short_hash(*right, length=40)
