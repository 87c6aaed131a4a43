"""Input without measure: what the API server refuses of it, and that what it keeps stops neither the operator nor anybody's task."""

from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CalledProcessError

import pytest

from taskfleet import names
from tests.apiserver.conftest import ApiServer
from tests.apiserver.made import all_made
from tests.apiserver.nested import NESTED, create_forged, create_nested, nested
from tests.apiserver.objects import changed, put, serving_class, task_model
from tests.apiserver.operator_process import running_operator
from tests.cluster.api import SERVING_CLASS, TASK_MODEL, Kind, Object
from tests.cluster.oracles import refused_clearly, settled

CLASS = "measured"
# The API server reads 10,000 levels; Python's parsers a thousand.
LEVELS = (300, 1_500, 9_900)


def nested_class(name: str, levels: int, api_server: ApiServer) -> None:
    body = changed(serving_class(name), put("spec.scheduling", {"affinity": NESTED}))
    create_nested(api_server, SERVING_CLASS, body, nested(levels, "a"))


def task(namespace: str, name: str, class_name: str = CLASS) -> Object:
    return changed(task_model(namespace, name), put("spec.servingClassName", class_name))


def told(api_server: ApiServer, kind: Kind, condition: str, namespace: str = "") -> dict[str, str]:
    """A condition's status of every object, by kubectl: Python does not read them."""
    path = f'{{range .items[*]}}{{.metadata.name}}={{.status.conditions[?(@.type=="{condition}")].status}}{{" "}}{{end}}'
    where = ("-n", namespace) if namespace else ()
    return dict(one.split("=") for one in api_server.kubectl("get", kind.plural, *where, "-o", f"jsonpath={path}").split())


@pytest.fixture
def classes(api_server: ApiServer) -> Iterator[None]:
    api_server.api.apply(serving_class(CLASS))
    yield
    api_server.kubectl("delete", SERVING_CLASS.plural, "--all")


@pytest.mark.usefixtures("classes")
def test_objects_nested_without_end_stop_nobody(api_server: ApiServer, new_namespace: Callable[[str], str], tmp_path: Path) -> None:
    """R-37, S-15: before the operator starts, so that its lists have them, and while it runs, so that its watches do."""
    api, tenant, other = api_server.api, new_namespace("nested"), new_namespace("other")

    def hand_in(when: str) -> None:
        for levels in LEVELS:
            nested_class(f"nested-{when}-{levels}", levels, api_server)
            for manager in ("kubectl", names.FIELD_MANAGER):
                create_forged(api_server, task(tenant, f"{manager}-{when}-{levels}"), levels, manager=manager)
        api.apply(task(other, f"asks-{when}", f"nested-{when}-{LEVELS[1]}"))
        api.apply(task(other, f"plain-{when}"))

    hand_in("before")
    with running_operator(api_server, tmp_path, namespace=new_namespace("operator")) as operator:
        operator.brings(lambda: all_made(api, other, "plain-before"), what="the neighbour's task is served")
        hand_in("later")
        operator.brings(lambda: all_made(api, other, "plain-before", "plain-later"), what="its second one, too")
        for when in ("before", "later"):
            refused_clearly(api, other, f"asks-{when}", reason="ServingClassInvalid", mentions="nested deeper than 32 levels")
        refused = {f"nested-{when}-{levels}" for when in ("before", "later") for levels in LEVELS}
        operator.brings(
            lambda: told(api_server, SERVING_CLASS, "Stalled").items() >= dict.fromkeys(refused, "True").items(), what="the classes say so"
        )
        # Nothing is wrong with these but the field sets.
        operator.brings(lambda: set(told(api_server, TASK_MODEL, "Accepted", tenant).values()) == {"True"}, what="all others are accepted")
        settled(api, other)
        assert operator.metric("taskfleet_reconcile_seconds_count", result="error") == 0


def test_more_levels_than_the_api_server_reads_are_refused_with_words(api_server: ApiServer) -> None:
    with pytest.raises(CalledProcessError) as refusal:
        nested_class("bottomless", 10_001, api_server)
    assert "exceeded max depth" in refusal.value.stderr
