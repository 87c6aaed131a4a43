"""The checks themselves: each must object where there is something to object to. No cluster is needed here."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from tests.cluster.api import NotReachedError, Object, eventually
from tests.cluster.load import Load, Target, constant_load, judge
from tests.cluster.oracles import Identities, invisible, minimal, summary
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
