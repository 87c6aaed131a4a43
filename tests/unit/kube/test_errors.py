"""What an answer of the API server means for whoever asked."""

import json

import pytest

from taskfleet.kube.errors import (
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    KubeError,
    MisfitError,
    NotFoundError,
    ThrottledError,
    UnauthorizedError,
    UnavailableError,
    from_response,
)


def _status(code: int, message: str = "no", reason: str = "") -> bytes:
    return json.dumps({"kind": "Status", "code": code, "message": message, "reason": reason}).encode()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, InvalidError),
        (401, UnauthorizedError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (409, ConflictError),
        (410, GoneError),
        (413, InvalidError),
        (422, InvalidError),
        (429, ThrottledError),
        (500, UnavailableError),
        (503, UnavailableError),
        (504, UnavailableError),
    ],
)
def test_status_decides_what_to_do_next(code: int, kind: type[KubeError]) -> None:
    error = from_response(code, _status(code, "because", "Why"))
    assert type(error) is kind
    assert (error.status, error.message, error.reason) == (code, "because", "Why")


@pytest.mark.parametrize(
    "message", ["failed to create typed patch object (default/x; /v1, Kind=ConfigMap): .data.a: expected string, got 1"]
)
def test_an_object_that_apply_cant_read_is_the_objects_fault_though_the_server_says_500(message: str) -> None:
    assert type(from_response(500, _status(500, message))) is InvalidError


def test_a_stored_object_that_does_not_fit_its_definition_is_told_apart() -> None:
    message = (
        "failed to create typed live object (finance/a; taskfleet.dev/v1alpha1, Kind=TaskModel): .spec.isolation: expected string, got 5"
    )
    assert type(from_response(500, _status(500, message))) is MisfitError
    assert issubclass(MisfitError, InvalidError), "trying again at once is of no use"


def test_throttling_carries_the_servers_wish() -> None:
    error = from_response(429, _status(429), retry_after="7")
    assert isinstance(error, ThrottledError)
    assert error.retry_after == 7


def test_a_throttled_answer_without_a_wish_is_waited_for_a_second() -> None:
    error = from_response(429, _status(429), retry_after="soon")
    assert isinstance(error, ThrottledError)
    assert error.retry_after == 1


@pytest.mark.parametrize("body", [b"", b"<html>bad gateway</html>", b"[1]", b"\xff\xfe"])
def test_an_answer_that_is_no_status_is_classified_by_its_code(body: bytes) -> None:
    error = from_response(502, body)
    assert isinstance(error, UnavailableError)
    assert error.status == 502
