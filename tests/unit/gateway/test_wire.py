"""HTTP towards agents: answers in any cut are read right, and whatever is no answer ends the connection."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.gateway.wire import HIGH_WATER_BYTES, MAX_HEAD_BYTES, BrokenError, Connection

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Socket(asyncio.Transport):
    """What the connection does to its transport."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.open = True
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def abort(self) -> None:
        self.open = False

    def is_closing(self) -> bool:
        return not self.open

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def connected(*, within: float = 60, quiet: float = 60) -> tuple[Connection, Socket]:
    connection, socket = Connection(), Socket()
    connection.connection_made(socket)
    connection.request(b"POST", within=within, quiet=quiet)
    return connection, socket


async def whole(connection: Connection) -> bytes:
    body = b""
    while part := await connection.some():
        body += part
    return body


async def answered(connection: Connection) -> None:
    await connection.head()
    await whole(connection)


def sized(body: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers, b"", body])


def in_chunks(*parts: bytes) -> bytes:
    return CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"


async def test_request_is_sent_as_it_is() -> None:
    _, socket = connected()
    assert socket.sent == b"POST"


@pytest.mark.parametrize("answer", [sized(b"hello"), in_chunks(b"hel", b"lo"), in_chunks(b"hello").replace(b"5\r\n", b"5;x=y\r\n")])
async def test_answer_is_read_and_the_connection_used_again(answer: bytes) -> None:
    connection, _ = connected()
    for _ in range(2):
        connection.data_received(answer)
        assert (await connection.head()).status == 200
        assert await whole(connection) == b"hello"
        assert connection.reusable
        connection.request(b"POST", within=60, quiet=60)
    connection.close()


async def test_header_names_have_no_case() -> None:
    connection, _ = connected()
    connection.data_received(sized(b"", b"CONTENT-type:  application/json "))
    assert (await connection.head()).headers["content-type"] == "application/json"


async def test_body_without_length_ends_with_the_connection() -> None:
    connection, _ = connected()
    connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nhel")
    connection.data_received(b"lo")
    connection.connection_lost(None)
    assert await whole(connection) == b"hello"
    assert not connection.reusable


@pytest.mark.parametrize("answer", [sized(b"", b"Connection: close"), sized(b"").replace(b"1.1", b"1.0")])
async def test_connection_that_the_pod_ends_is_not_used_again(answer: bytes) -> None:
    connection, _ = connected()
    connection.data_received(answer)
    assert await whole(connection) == b""
    assert not connection.reusable


async def test_interim_answers_are_passed_over() -> None:
    connection, _ = connected()
    connection.data_received(b"HTTP/1.1 100 Continue\r\n\r\n" + sized(b"x"))
    assert (await connection.head()).status == 200
    assert await whole(connection) == b"x"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 999 Strange\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nRetry-After: 1\nX-Forged: yes\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: a\rb\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: a\0b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * (MAX_HEAD_BYTES + 10),
        CHUNKED + b"-5\r\nhello\r\n",
        CHUNKED + b"0x5\r\nhello\r\n",
        CHUNKED + b"\r\n",
        CHUNKED + b"5\r\nhelloXX",
        CHUNKED + b"123456789\r\n",
        CHUNKED + b"f" * 2000,
        CHUNKED + b"0\r\nTrailer: x\r\n\r\n",
    ],
)
async def test_what_is_no_http_breaks_the_connection(answer: bytes) -> None:
    connection, socket = connected()
    connection.data_received(answer)
    assert not socket.open
    with pytest.raises(BrokenError):
        await answered(connection)


@pytest.mark.parametrize("answer", [sized(b"hello") + b"HTTP/1.1 200 OK", in_chunks(b"x") + b"x"])
async def test_bytes_beyond_the_answer_are_never_the_next_requests(answer: bytes) -> None:
    connection, socket = connected()
    connection.data_received(answer)
    assert not connection.reusable
    assert not socket.open


async def test_bytes_that_nobody_asked_for_break_an_idle_connection() -> None:
    connection, socket = connected()
    connection.data_received(sized(b""))
    connection.data_received(sized(b"forged"))
    assert not connection.reusable
    assert not socket.open


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200", sized(b"hello")[:-1], CHUNKED + b"5\r\nhel", in_chunks(b"hello")[:-2]])
async def test_end_in_the_middle_is_told(begun: bytes) -> None:
    connection, _ = connected()
    if begun:
        connection.data_received(begun)
    connection.connection_lost(None)
    with pytest.raises(BrokenError):
        await answered(connection)


async def test_pod_that_says_nothing_for_too_long_is_given_up() -> None:
    connection, socket = connected(quiet=0.05)
    with pytest.raises(TimeoutError):
        await connection.head()
    assert not socket.open


async def test_pod_that_goes_on_talking_is_given_up_at_the_end_of_its_time() -> None:
    connection, socket = connected(within=0.2, quiet=0.1)
    connection.data_received(CHUNKED)

    async def talk() -> None:
        while socket.open:
            connection.data_received(b"1\r\nx\r\n")
            await asyncio.sleep(0.01)

    talking = asyncio.create_task(talk())
    with pytest.raises(TimeoutError):
        await whole(connection)
    await talking


async def test_words_in_between_put_off_the_end_of_patience() -> None:
    connection, socket = connected(within=60, quiet=0.3)
    connection.data_received(CHUNKED)
    for _ in range(5):
        await asyncio.sleep(0.1)
        connection.data_received(b"1\r\nx\r\n")
    assert socket.open
    connection.close()


async def test_fast_pod_waits_for_a_slow_client() -> None:
    connection, socket = connected()
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * (HIGH_WATER_BYTES + 1))
    assert not socket.reading
    assert len(await connection.some()) == HIGH_WATER_BYTES + 1
    assert socket.reading
    connection.close()


@given(st.lists(st.binary(max_size=60), max_size=5), st.booleans(), st.lists(st.integers(1, 80), max_size=40))
def test_the_networks_cuts_change_nothing(parts: list[bytes], by_length: bool, cuts: list[int]) -> None:  # noqa: FBT001  drawn
    async def read() -> bytes:
        connection, _ = connected()
        rest = sized(b"".join(parts)) if by_length else in_chunks(*parts)
        for cut in [*cuts, len(rest)]:
            if rest:
                connection.data_received(rest[:cut])
                rest = rest[cut:]
        assert (await connection.head()).status == 200
        body = await whole(connection)
        assert connection.reusable
        connection.close()
        return body

    assert asyncio.run(read()) == b"".join(parts)


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_any_bytes_end_in_an_answer_or_a_broken_connection(parts: list[bytes]) -> None:
    async def read() -> None:
        connection, _ = connected()
        for part in parts:
            connection.data_received(part)
        connection.connection_lost(None)
        try:
            await answered(connection)
        except BrokenError:
            return

    asyncio.run(read())
