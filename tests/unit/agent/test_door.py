"""The door before the agent is behind it."""

import http.client
import socket
import threading

import pytest

from taskfleet.agent.door import Door, opened
from taskfleet.api.agent import DESIRED_PATH, LIVE_PATH, READY_PATH


def ask(address: tuple[str, int], path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection(*address, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_agent_that_starts_says_that_it_lives_and_nothing_else() -> None:
    door = Door("127.0.0.1", 0)
    assert ask(door.address, LIVE_PATH) == (200, "ok")
    for method, path in (("GET", READY_PATH), ("PUT", DESIRED_PATH), ("GET", f"{LIVE_PATH}/more"), ("POST", LIVE_PATH)):
        assert ask(door.address, path, method) == (503, "starting")
    door.hand_over().close()


def test_who_comes_meanwhile_is_answered_by_whom_the_door_is_given_to() -> None:
    door = Door("127.0.0.1", 0)
    listening = door.hand_over()
    with listening, socket.create_connection(door.address, timeout=10) as client:
        client.sendall(b"x")
        listening.settimeout(10)
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(10)
            assert connection.recv(1) == b"x"


def test_client_that_says_nothing_or_leaves_keeps_nobody_out() -> None:
    door = Door("127.0.0.1", 0)
    with socket.create_connection(door.address, timeout=10):
        socket.create_connection(door.address, timeout=10).close()
        assert ask(door.address, LIVE_PATH) == (200, "ok")
    door.hand_over().close()
    assert not [thread for thread in threading.enumerate() if thread.name == "door"]


@pytest.mark.parametrize("port", ["many", "99999999", "-1"])
def test_settings_that_are_wrong_open_no_door(port: str) -> None:
    assert opened({"TASKFLEET_POD_IP": "127.0.0.1", "TASKFLEET_LISTEN_PORT": port}) is None


def test_address_that_is_taken_opens_no_door() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert opened({"TASKFLEET_POD_IP": "127.0.0.1", "TASKFLEET_LISTEN_PORT": str(taken.getsockname()[1])}) is None


def test_door_opens_where_the_settings_say() -> None:
    door = opened({"TASKFLEET_POD_IP": "127.0.0.1", "TASKFLEET_LISTEN_PORT": "0"})
    assert door is not None
    assert ask(door.address, LIVE_PATH) == (200, "ok")
    door.hand_over().close()
