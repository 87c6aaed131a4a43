"""R-01: every manifest that people start from is accepted by the operator and leads to a state that explains itself."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.apiserver.conftest import ApiServer
from tests.apiserver.operator_process import running_operator
from tests.cluster.api import NAMESPACE, POOL, SERVING_CLASS, TASK_MODEL, Object, eventually, is_true, key
from tests.cluster.oracles import said, settled

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.yaml"))


@pytest.fixture(scope="module")
def samples() -> list[Object]:
    """All documents of the examples, in the order in which one needs the other."""
    found = [document for path in EXAMPLES for document in yaml.safe_load_all(path.read_text()) if document]
    return sorted(found, key=lambda document: document["kind"] not in {NAMESPACE.kind, SERVING_CLASS.kind})


@pytest.fixture
def applied(api_server: ApiServer, samples: list[Object]) -> Iterator[list[Object]]:
    for document in samples:
        api_server.api.apply(document)
    yield samples
    for kind in (TASK_MODEL, SERVING_CLASS):
        for document in samples:
            if document["kind"] == kind.kind:
                api_server.api.delete(kind, document["metadata"]["name"], document["metadata"].get("namespace", ""))


def test_every_sample_is_accepted_and_settles(
    api_server: ApiServer, applied: list[Object], new_namespace: Callable[[str], str], tmp_path: Path
) -> None:
    api = api_server.api
    tasks = [document["metadata"] for document in applied if document["kind"] == TASK_MODEL.kind]
    namespaces = sorted({task["namespace"] for task in tasks})
    with running_operator(api_server, tmp_path, namespace=new_namespace("operator")) as operator:

        def assigned() -> bool:
            found = [api.get(TASK_MODEL, task["name"], task["namespace"]) for task in tasks]
            assert not [f"{key(task)}: {said(task)}" for task in found if not is_true(task, "Assigned")]
            return True

        eventually(assigned, what="every TaskModel has a pool", describe=operator.told)
        settled(api, *namespaces)
        for task in tasks:
            found = api.get(TASK_MODEL, task["name"], task["namespace"])
            assert is_true(found, "Accepted"), f"{key(found)}: {said(found)}"
        for document in applied:
            if document["kind"] == SERVING_CLASS.kind:
                found = api.get(SERVING_CLASS, document["metadata"]["name"])
                assert is_true(found, "Accepted"), f"{key(found)}: {said(found)}"
        pools = {namespace: len(api.list(POOL, namespace)) for namespace in namespaces}
        # The three invoice tasks share one; of the two of the maximal example one is Dedicated.
        assert pools == {"default": 1, "finance": 1, "research": 2}
