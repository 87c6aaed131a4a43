"""Which trace contexts are passed on."""

import pytest

from taskfleet.gateway.trace_context import TraceContext, trace_context
from tests.unit.gateway.pods import Pod
from tests.unit.gateway.world import MODEL, running

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize("parent", [VALID, f"00-{TRACE}-{SPAN}-00", f"01-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-what-comes-later"])
def test_valid_parents_are_taken_as_they_are(parent: str) -> None:
    assert trace_context({"traceparent": parent}) == TraceContext(parent)


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "1",
        VALID.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}",
        f"{VALID}\r\nAuthorization: Bearer x",
        f"{VALID}\n",
        f"cc-{VALID[3:]}-" + "x" * 200,
    ],
)
def test_others_are_dropped_with_their_state(parent: str) -> None:
    assert trace_context({"traceparent": parent, "tracestate": "a=b"}) is None


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ("a=b", "a=b"),
        ("a=b, c@d=e ,", "a=b,c@d=e"),
        ("tenant@system=some value", "tenant@system=some value"),
        ("a", ""),
        ("A=b", ""),
        ("a=b,a=c", ""),
        ("a=b\r\nX: y", ""),
        ("a=" + "x" * 300, ""),
        (",".join(f"a{number}=b" for number in range(33)), ""),
        ("a=ä", ""),
    ],
)
def test_state_is_passed_on_whole_or_not_at_all(state: str, kept: str) -> None:
    assert trace_context({"traceparent": VALID, "tracestate": state}) == TraceContext(VALID, kept)


async def test_pods_get_the_clients_context_and_nothing_forged() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        for headers in ({"traceparent": VALID, "tracestate": "a=b"}, {"traceparent": "00-nothing", "tracestate": "a=b"}, {}):
            async with world.post(headers=headers) as response:
                assert response.status == 200
        sent = [(received.headers.get("traceparent"), received.headers.get("tracestate")) for received in pod.received]
        assert sent == [(VALID, "a=b"), (None, None), (None, None)]
