"""Names of models: Kubernetes' rules and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.gateway.model_name import ModelName, own_namespace, parse

LABEL = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)


def test_bare_name_is_looked_for_in_the_callers_own_namespace() -> None:
    assert parse("vendor", own_namespace="finance") == ModelName("finance", "vendor")


def test_bare_name_of_a_caller_without_a_namespace_names_nothing() -> None:
    assert parse("vendor", own_namespace=None) is None


def test_full_name_ignores_the_callers_namespace() -> None:
    assert parse("legal/vendor", own_namespace="finance") == ModelName("legal", "vendor")


def test_revision_is_pinned_behind_either_form() -> None:
    assert parse("vendor@0f1e2d3c4b", own_namespace="finance") == ModelName("finance", "vendor", "0f1e2d3c4b")
    assert parse("finance/vendor@vendor-0f1e2d3c4b", own_namespace=None) == ModelName("finance", "vendor", "vendor-0f1e2d3c4b")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "finance/",
        "/vendor",
        "finance/vendor/x",
        "finance/vendor@",
        "@rev",
        "../vendor",
        "finance/..",
        "Finance/Vendor",
        "finance/vendor\n",
        "finance/vendor ",
        "finance.vendor.abcdef",
        "finance/-vendor",
        "finance/" + "a" * 64,
        "finance/vendor@" + "a" * 64,
        "finance/ven\u0000dor",
        "finance/vеndor",  # noqa: RUF001  a Cyrillic letter
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    assert parse(text, own_namespace="finance") is None


@given(LABEL, LABEL, st.none() | LABEL)
def test_names_survive_writing_and_reading(namespace: str, name: str, revision: str | None) -> None:
    model = ModelName(namespace, name, revision)
    assert parse(model.public, own_namespace="elsewhere") == model


@given(st.text(max_size=400))
def test_parsed_names_hold_nothing_but_labels(text: str) -> None:
    found = parse(text, own_namespace="own")
    for part in (found.namespace, found.name, found.revision or "x") if found else ():
        assert part.isascii()
        assert part.replace("-", "").isalnum()
        assert "/" not in part


def test_service_accounts_have_a_namespace_and_people_have_none() -> None:
    assert own_namespace("system:serviceaccount:finance:worker") == "finance"
    assert own_namespace("jane@example.com") is None
    assert own_namespace("system:serviceaccount:finance:worker:x") is None
    assert own_namespace("x system:serviceaccount:finance:worker") is None
