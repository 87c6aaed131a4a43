"""The checks themselves: each must object where there is something to object to. No cluster is needed here."""

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from tests.cluster import oracles
from tests.cluster.api import EVENT, NAMESPACE, POD, POOL, SERVICE, Api, Kind, NotReachedError, Object, eventually
from tests.cluster.load import Load, Target, constant_load, judge, timed_load
from tests.cluster.oracles import (
    MEMORY_BYTES,
    MEMORY_GROWTH_BYTES,
    Identities,
    health,
    healthy,
    invisible,
    minimal,
    no_orphan,
    refused_clearly,
    silent,
    standing,
    summary,
)
from tests.cluster.states import same_state


def described(generation: int, observed: int, **statuses: str) -> Object:
    conditions = [{"type": name, "status": value, "reason": "Because", "message": ""} for name, value in statuses.items()]
    metadata = {"name": "vendor", "namespace": "finance", "generation": generation}
    return {"kind": "TaskModel", "metadata": metadata, "status": {"observedGeneration": observed, "conditions": conditions}}


def test_settled_object_has_exactly_one_summary() -> None:
    assert summary(described(2, 2, Ready="True", Accepted="True")) == "Ready"
    assert summary(described(2, 2, Ready="False", Stalled="True")) == "Stalled"


@pytest.mark.parametrize(
    "obj",
    [
        described(2, 1, Ready="True"),
        described(2, 2, Ready="True", Reconciling="True"),
        described(2, 2, Ready="False"),
        described(2, 2),
    ],
    ids=["stale", "two at once", "unexplained", "silent"],
)
def test_unexplained_state_is_objected_to(obj: Object) -> None:
    with pytest.raises(AssertionError):
        summary(obj)


def test_hidden_fields_are_named() -> None:
    spec = {"engine": {"image": "engine:7", "shared": 41}, "price": "2.37", "late": {"idle": 77}}
    evidence = json.dumps({"containers": [{"image": "engine:7"}]}) + " without effect: spec.late.idle"
    assert invisible(spec, evidence) == ["spec.engine.shared=41", "spec.price=2.37"]


def test_new_uids_and_restarts_are_objected_to() -> None:
    before = Identities({"Pod/a": "1"}, {"Pod/a/engine": 0})
    minimal(before, Identities({"Pod/a": "1", "Pod/b": "2"}, {"Pod/a/engine": 0}))
    with pytest.raises(AssertionError, match="made anew"):
        minimal(before, Identities({"Pod/a": "3"}, {"Pod/a/engine": 0}))
    with pytest.raises(AssertionError, match="restarted"):
        minimal(before, Identities({"Pod/a": "1"}, {"Pod/a/engine": 1}))


def test_differences_of_states_are_named() -> None:
    same_state({"a": {"b": [1, 2]}}, {"a": {"b": [1, 2]}}, what="equal")
    with pytest.raises(AssertionError, match="a/b"):
        same_state({"a": {"b": [1, 2]}}, {"a": {"b": [1]}}, what="unequal")


def test_waiting_tells_the_last_obstacle() -> None:
    def never() -> bool:
        raise AssertionError("two pods are missing")

    with pytest.raises(NotReachedError, match="all pods run: not within 0 s; last: two pods are missing\nthe story"):
        eventually(never, what="all pods run", within=0.1, describe=lambda: "the story")


TARGET = Target("finance/vendor", "a line", answers=("abcdef",))
RIGHT = {"model": "finance/vendor", "choices": [{"message": {"content": "by abcdef"}}]}


@pytest.mark.parametrize(
    ("status", "raw", "error"),
    [
        (200, json.dumps(RIGHT).encode(), ""),
        (503, b"busy", "HTTP 503"),
        (200, b"{}", "not an OpenAI answer"),
        (200, json.dumps(RIGHT | {"model": "finance.vendor.123"}).encode(), "answered as finance.vendor.123"),
        (200, json.dumps(RIGHT | {"choices": [{"message": {"content": "by the bare base"}}]}).encode(), "other bytes"),
    ],
)
def test_only_right_answers_count(status: int, raw: bytes, error: str) -> None:
    found = judge(TARGET, status, raw)[1]
    assert found.startswith(error) if error != "other bytes" else error in found
    assert bool(found) == bool(error)


def test_streams_need_an_end_and_one_model() -> None:
    target = Target("finance/vendor", "a line", answers=("abcdef",), stream=True)
    chunks = [{"model": "finance/vendor", "choices": [{"delta": {"content": part}}]} for part in ("by abc", "def")]
    events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks).encode()
    assert judge(target, 200, events + b"data: [DONE]\n\n") == ("by abcdef", "")
    assert "no end" in judge(target, 200, events)[1]


class EveryTenthFails(BaseHTTPRequestHandler):
    """A gateway that breaks every tenth request."""

    protocol_version = "HTTP/1.1"
    count: ClassVar[int] = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        type(self).count += 1
        failed = type(self).count % 10 == 0
        body = b"broken" if failed else json.dumps(RIGHT).encode()
        self.send_response(500 if failed else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Silent."""


@contextmanager
def gateway() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), EveryTenthFails)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_load_keeps_its_rate_and_notices_every_failure() -> None:
    with gateway() as url, constant_load(url, [TARGET], rate=100) as load:
        load.wait_for(60)
    assert len(load.errors()) == len(load.outcomes) // 10
    with pytest.raises(AssertionError, match="requests failed"):
        load.assert_no_error()


def test_timed_load_sends_each_request_at_its_time_and_not_before() -> None:
    times = [0.0, 0.1, 0.1, 0.4]
    with gateway() as url, timed_load(url, [(at, TARGET) for at in times]) as load:
        load.wait_for(len(times))
    assert {one.number for one in load.outcomes} == set(range(len(times)))
    assert all(one.started >= load.began + times[one.number] for one in load.outcomes)


def test_load_goes_nowhere_but_to_the_local_cluster() -> None:
    with pytest.raises(AssertionError, match="not the local cluster"), constant_load("http://192.0.2.1", [TARGET]):
        pass


def test_load_that_sends_nothing_is_no_proof() -> None:
    with pytest.raises(AssertionError, match="sent nothing"):
        Load(rate=1).assert_no_error()


def test_slow_load_ends_when_it_is_told_to() -> None:
    with gateway() as url, constant_load(url, [TARGET], rate=1 / 3600) as load:
        load.wait_for(1)
    assert len(load.outcomes) == 1


class Scripted(Api):
    """A cluster of a few objects; `meanwhile` is called at every look at the pods."""

    def __init__(self, *objects: Object) -> None:
        self.objects = list(objects)
        self.log = ""
        self.memory = 100 * 2**20
        self.meanwhile: Callable[[], object] = lambda: None

    def list(self, kind: Kind, namespace: str = "", *, labels: str = "", fields: str = "") -> list[Object]:  # noqa: ARG002
        if kind is POD:
            self.meanwhile()
        found = [one for one in self.objects if one["kind"] == kind.kind]
        return [one for one in found if not labels or "labels" in one["metadata"]]

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object:  # noqa: ARG002
        return next(one for one in self.objects if (one["kind"], one["metadata"]["name"]) == (kind.kind, name))

    def logs(self, pod: str, namespace: str, **_: object) -> str:  # noqa: ARG002
        return self.log

    def request(self, *_: object, **__: object) -> bytes:
        return f"process_resident_memory_bytes {self.memory}\n".encode()


def thing(kind: Kind, name: str, **content: object) -> Object:
    return {"kind": kind.kind, "metadata": {"name": name, "namespace": "finance", "uid": name, "resourceVersion": "1"}, **content}


def a_pod(name: str = "operator", *, restarts: int = 0) -> Object:
    containers = [{"name": "operator", "restartCount": restarts, "ready": True}]
    return thing(POD, name, status={"phase": "Running", "containerStatuses": containers})


def test_what_happens_in_a_settled_state_is_objected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    silent(Scripted(thing(POOL, "tiny")), "finance", seconds=0.1)
    # At rest at once, so that what happens at the second look happens within the silence.
    monkeypatch.setattr(oracles, "still", lambda api, *namespaces, **_: standing(api, *namespaces))
    for happens, objection in ((written, "written in a settled state: .*tiny"), (told, "events in a settled state: .*again")):
        cluster = Scripted(thing(POOL, "tiny"))
        cluster.meanwhile = happens(cluster, itertools.count())
        with pytest.raises(AssertionError, match=objection):
            silent(cluster, "finance", seconds=0.1)


def written(cluster: Scripted, looks: Iterator[int]) -> Callable[[], object]:
    return lambda: cluster.objects[0]["metadata"].update(resourceVersion=str(next(looks)))


def told(cluster: Scripted, looks: Iterator[int]) -> Callable[[], object]:
    return lambda: cluster.objects.append(thing(EVENT, "again")) if next(looks) == 1 else None


def test_silence_of_nothing_is_objected_to() -> None:
    with pytest.raises(AssertionError, match="empty"):
        silent(Scripted(), "finance", seconds=0.1)


def test_what_is_unhealthy_is_objected_to() -> None:
    cluster = Scripted(a_pod())
    before = health(cluster, "system")
    healthy(cluster, "system", since=before)
    for log, found in (
        ("error x\n    Traceback (most recent call last):\n    ValueError: odd", "odd"),
        ("pods is forbidden: User me", "me"),
    ):
        cluster.log = log
        with pytest.raises(AssertionError, match=found):
            healthy(cluster, "system", since=before)
    cluster.log = "pods is forbidden: exceeded quota"
    healthy(cluster, "system", since=before)
    cluster.memory += MEMORY_GROWTH_BYTES
    with pytest.raises(AssertionError, match="grew by 64 MiB"):
        healthy(cluster, "system", since=before)
    healthy(cluster, "system")
    cluster.memory = MEMORY_BYTES
    with pytest.raises(AssertionError, match="holds 400 MiB"):
        healthy(cluster, "system")


def test_restarts_are_objected_to_unless_they_have_a_cause() -> None:
    cluster = Scripted(a_pod(restarts=1))
    healthy(cluster, "system", since=health(cluster, "system"))
    with pytest.raises(AssertionError, match="operator restarted 1 times"):
        healthy(cluster, "system")
    healthy(cluster, "system", may_restart=True)
    with pytest.raises(AssertionError, match="no pod runs"):
        healthy(Scripted(), "system")


def test_what_is_left_and_what_others_lost_is_objected_to() -> None:
    namespace = thing(NAMESPACE, "finance", status={"phase": "Active"})
    no_orphan(Scripted(namespace, thing(SERVICE, "theirs")), "finance", others={"Service/finance/theirs": "theirs"})
    with pytest.raises(NotReachedError, match=r"left: .*ModelPool/finance/tiny"):
        no_orphan(Scripted(namespace, thing(POOL, "tiny")), "finance", others={}, within=0.1)
    with pytest.raises(AssertionError, match="others' objects are gone"):
        no_orphan(Scripted(namespace), "finance", others={"Service/finance/theirs": "theirs"})


def a_refusal(**stalled: str) -> Scripted:
    """A TaskModel that is refused as it should be, and the event that says so."""
    task = described(1, 1, Ready="False", Stalled="True")
    task["metadata"]["uid"] = "vendor"
    said = {"reason": "InvalidSpec", "message": "spec.task.outputSchema is none"} | stalled
    task["status"]["conditions"] = [one | said for one in task["status"]["conditions"]]
    event = thing(EVENT, "one", type="Warning", reason="InvalidSpec", regarding={"uid": "vendor"}, note="no schema")
    return Scripted(task, event)


def refused(cluster: Scripted) -> None:
    refused_clearly(cluster, "finance", "vendor", reason="InvalidSpec", mentions="spec.task.outputSchema", within=0.1)


def test_unclear_refusals_are_objected_to() -> None:
    refused(a_refusal())
    for cluster, found in ((a_refusal(reason="Other"), "stalled with Other"), (a_refusal(message="bad"), "does not mention")):
        with pytest.raises(NotReachedError, match=found):
            refused(cluster)
    for events, found in (([], "no Warning event"), (["one", "two"], "2 Warning events say InvalidSpec")):
        cluster = a_refusal()
        event = cluster.objects.pop()
        cluster.objects += [event | {"metadata": event["metadata"] | {"name": name}} for name in events]
        with pytest.raises(AssertionError, match=found):
            refused(cluster)
