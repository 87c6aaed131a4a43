"""The operator behind a network that loses, stalls and cuts, before an API server that forgets, restarts and is away: nothing is made twice, nothing is rolled, nothing is missed.

Each test begins with what the one before left: a settled fleet.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.apiserver.api_proxy import ApiProxy, Call, api_proxy
from tests.apiserver.conftest import ApiServer
from tests.apiserver.made import complete, members
from tests.apiserver.objects import changed, put, serving_class, task_model
from tests.apiserver.operator_process import OperatorProcess, start
from tests.cluster.api import CHILDREN, EVENT, POOL, REVISION, SERVING_CLASS, TASK_MODEL, Api, eventually
from tests.cluster.local.control_plane import api_server_ready, start_api_server
from tests.cluster.local.instance import Instance
from tests.cluster.local.processes import stop
from tests.cluster.oracles import SOAK, identities, minimal, standing, still

CLASS = "outages"
# in full with TASKFLEET_SOAK=1; otherwise the operator looks more often, and outages are short.
OUTAGE_SECONDS = 180.0 if SOAK else 4.0
NOTICED_SECONDS = 90.0
SETTINGS = {} if SOAK else {"users_relist_seconds": "3", "relist_seconds": "20"}


@dataclass(slots=True)
class Stage:
    """A fleet in one namespace, and an operator that is started anew when it ends, as the kubelet does."""

    api_server: ApiServer
    proxy: ApiProxy
    namespace: str
    system: str
    folder: Path
    tasks: list[str] = field(default_factory=list)
    operators: list[OperatorProcess] = field(default_factory=list)

    @property
    def api(self) -> Api:
        return self.api_server.api

    @property
    def operator(self) -> OperatorProcess:
        return self.operators[-1]

    def run(self) -> None:
        kubeconfig = self.proxy.kubeconfig(self.folder)
        self.operators.append(start(self.api_server, self.folder, namespace=self.system, kubeconfig=kubeconfig, **SETTINGS))

    def brings(self, check: Callable[[], object], *, what: str, within: float = 60) -> None:
        """Waits for what the operator is to do, whether or not it has to be restarted meanwhile."""

        def checked() -> bool:
            if self.operator.process.poll() is not None:
                self.run()
            return bool(check())

        eventually(checked, what=what, within=within, describe=self.operator.told)

    def apply(self, name: str) -> None:
        self.tasks.append(name)
        self.api.apply(changed(task_model(self.namespace, name), put("spec.servingClassName", CLASS)))

    def settles(self) -> None:
        self.brings(lambda: complete(self.api, self.namespace, *self.tasks), what=f"{self.tasks} share a pool", within=90)

    @contextmanager
    def nothing_is_made_anew(self) -> Iterator[None]:
        """O6 over what stood before; what comes in the meantime adds to it."""
        before = identities(self.api, self.namespace, pods=False)
        yield
        self.settles()
        minimal(before, identities(self.api, self.namespace, pods=False))


@pytest.fixture(scope="module")
def stage(api_server: ApiServer, new_namespace: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    api_server.api.apply(serving_class(CLASS))
    with api_proxy(api_server.kubeconfig) as proxy:
        found = Stage(api_server, proxy, new_namespace("outages"), new_namespace("system"), tmp_path_factory.mktemp("operator"))
        try:
            found.run()
            found.brings(lambda: found.operator.probe("/readyz") == 200, what="it is ready")
            yield found
        finally:
            for operator in found.operators:
                if operator.process.poll() is None:
                    operator.stop()
        for operator in found.operators:
            assert "Traceback" not in operator.log.read_text(errors="replace"), operator.told()
    api_server.api.delete(SERVING_CLASS, CLASS)


def test_lost_replies_make_nothing_twice(stage: Stage) -> None:
    """R-15: of every object the first write is done, and the operator never hears of it."""
    seen: set[Call] = set()

    def first_of_its_kind(call: Call) -> bool:
        writes = call.verb in {"patch", "create"} and call.namespace == stage.namespace
        if not writes or call in seen:
            return False
        seen.add(call)
        return True

    stage.proxy.lose_reply = first_of_its_kind
    for name in ("one", "two"):
        stage.apply(name)
    stage.settles()
    stage.proxy.lose_reply = None
    lost = {call.resource for call in stage.proxy.lost}
    assert {"taskmodelrevisions", "modelpools", "taskmodels/status", "modelpools/status", *(kind.plural for kind in CHILDREN)} <= lost
    assert len(stage.api.list(POOL, stage.namespace)) == 1
    assert sorted(one["spec"]["taskModelName"] for one in stage.api.list(REVISION, stage.namespace)) == ["one", "two"]
    told = [
        (event["regarding"]["uid"], event["reason"], event.get("note"))
        for event in stage.api.list(EVENT, stage.namespace)
        if event.get("reportingController") == "taskfleet.dev/operator"
    ]
    assert len(told) == len(set(told)), "an event is told once"


def test_a_watch_that_stands_still_delays_nothing_for_long_and_is_noticed(stage: Stage) -> None:
    """R-17."""
    with stage.nothing_is_made_anew():
        stage.proxy.freeze_watches()
        stage.apply("three")
        stage.brings(lambda: "three" in members(stage.api, stage.namespace), what="three has a pool", within=NOTICED_SECONDS)
        stage.apply("four")
        stage.brings(lambda: "four" in members(stage.api, stage.namespace), what="four has a pool", within=NOTICED_SECONDS)
        stage.brings(lambda: stage.operator.probe("/livez") == 503, what="liveness asks for a restart", within=NOTICED_SECONDS)
        stage.proxy.thaw_watches()
        stage.brings(lambda: stage.operator.probe("/livez") == 200, what="it is well again", within=NOTICED_SECONDS)
    assert stage.operator.metric("taskfleet_relist_corrections_total", kind="TaskModel") >= 2


def test_watches_that_must_begin_anew_miss_and_roll_nothing(stage: Stage) -> None:
    """R-18: 410 Gone, whenever a watch is tried again."""
    before = still(stage.api, stage.namespace)
    stage.proxy.watches_are_gone = True
    stage.proxy.cut()
    stage.apply("five")
    stage.brings(lambda: "five" in members(stage.api, stage.namespace), what="five has a pool", within=NOTICED_SECONDS)
    stage.proxy.watches_are_gone = False
    stage.settles()
    minimal_versions(before.versions, standing(stage.api, stage.namespace).versions)


def test_an_outage_rolls_nothing(stage: Stage) -> None:
    """R-18: what happens meanwhile is caught up with."""
    before = still(stage.api, stage.namespace)
    stage.proxy.go_away()
    over = time.monotonic() + OUTAGE_SECONDS
    stage.apply("six")
    stage.brings(lambda: time.monotonic() > over, what="the outage is over", within=OUTAGE_SECONDS + 10)
    stage.proxy.come_back()
    stage.settles()
    minimal_versions(before.versions, standing(stage.api, stage.namespace).versions)


def test_a_restart_of_the_api_server_rolls_nothing(stage: Stage, own_control_plane: Instance | None) -> None:
    """R-18."""
    if own_control_plane is None:
        pytest.skip("the API server is not this run's own")
    before = still(stage.api, stage.namespace)
    # It crashes: asked to end, it would wait a minute for the watches.
    stop(own_control_plane, "kube-apiserver", grace=0)
    start_api_server(own_control_plane)
    eventually(api_server_ready(own_control_plane), what="the API server is ready", within=120)
    eventually(lambda: stage.api.list(TASK_MODEL, stage.namespace) or None, what="it serves TaskModels", within=60)
    stage.apply("seven")
    stage.settles()
    minimal_versions(before.versions, standing(stage.api, stage.namespace).versions)


def minimal_versions(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Nothing that stood was written, but the pool and its document that take in a newcomer."""
    changed_since = {name for name, version in before.items() if after.get(name) != version}
    assert {name.split("/")[0] for name in changed_since} <= {"ModelPool", "ConfigMap"}, changed_since
