"""Tokens in the ids of answers: good for one caller and one revision, for a time, under keys that change."""

import re

import pytest

from taskfleet.gateway.answer_ids import CLOCK_SKEW_SECONDS, TOKEN_LENGTH, AnswerIds, AnswerToken, KeyRing, UnknownKeyError, mark, read

UID = "0b7c3c5e-0000-4000-8000-000000000002"
ALICE = "system:serviceaccount:finance:alice"
NOW = 1_800_000_000.0
OLD, NEW = {3: b"o" * 32}, {4: b"n" * 32}


def ids(ring: KeyRing) -> AnswerIds:
    return AnswerIds(ring, lifetime=3600)


def made(answer_ids: AnswerIds, *, pinned: bool = False) -> AnswerToken:
    token = read("chatcmpl-mine-" + answer_ids.make(revision_uid=UID, caller=ALICE, pinned=pinned, now=NOW))
    assert token is not None
    return token


def genuine(answer_ids: AnswerIds, token: AnswerToken, *, uid: str = UID, caller: str = ALICE, now: float = NOW) -> bool:
    return answer_ids.genuine(token, revision_uid=uid, caller=caller, now=now)


def test_token_is_short_plain_and_never_the_same() -> None:
    texts = {ids(KeyRing(OLD)).make(revision_uid=UID, caller=ALICE, pinned=False, now=NOW) for _ in range(1000)}
    assert len(texts) == 1000
    assert all(re.fullmatch(rf"[A-Za-z0-9_-]{{{TOKEN_LENGTH}}}", text) for text in texts)


@pytest.mark.parametrize("pinned", [False, True])
def test_token_is_known_again_with_all_that_it_says(*, pinned: bool) -> None:
    token = made(ids(KeyRing(OLD)), pinned=pinned)
    assert (token.key, token.pinned, token.issued, token.mark) == (3, pinned, int(NOW), mark(UID))
    assert genuine(ids(KeyRing(OLD)), token)


def test_token_is_nobody_elses_and_no_other_revisions() -> None:
    answer_ids = ids(KeyRing(OLD))
    token = made(answer_ids)
    assert not genuine(answer_ids, token, caller="system:serviceaccount:finance:bob")
    assert not genuine(answer_ids, token, caller="")
    assert not genuine(answer_ids, token, uid="0b7c3c5e-0000-4000-8000-000000000003")


def test_token_ends_and_does_not_come_from_the_future() -> None:
    answer_ids = ids(KeyRing(OLD))
    token = made(answer_ids)
    assert genuine(answer_ids, token, now=NOW + 3600)
    assert not genuine(answer_ids, token, now=NOW + 3601)
    assert genuine(answer_ids, token, now=NOW - CLOCK_SKEW_SECONDS)
    assert not genuine(answer_ids, token, now=NOW - CLOCK_SKEW_SECONDS - 1)


def test_no_character_of_a_token_can_be_changed() -> None:
    answer_ids = ids(KeyRing(OLD))
    text = answer_ids.make(revision_uid=UID, caller=ALICE, pinned=False, now=NOW)
    for place in range(TOKEN_LENGTH):
        forged = read(text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :])
        assert forged is not None
        try:
            assert not genuine(answer_ids, forged), place
        except UnknownKeyError:
            assert place < 2  # the key's number


def test_highest_key_signs_and_older_ones_are_good_until_they_go() -> None:
    ring = KeyRing(OLD)
    before = made(ids(ring))
    ring.put(OLD | NEW)
    after = made(ids(ring))
    assert (before.key, after.key) == (3, 4)
    assert genuine(ids(ring), before)
    assert genuine(ids(ring), after)
    with pytest.raises(UnknownKeyError):
        genuine(ids(KeyRing(OLD)), after)
    ring.put(NEW)
    with pytest.raises(UnknownKeyError):
        genuine(ids(ring), before)


def test_without_a_key_requests_are_told_apart_and_nothing_is_signed() -> None:
    unsigned = ids(KeyRing())
    texts = {unsigned.make(revision_uid=UID, caller=ALICE, pinned=False, now=NOW) for _ in range(100)}
    assert len(texts) == 100
    assert {read(f"chatcmpl-{text}") for text in texts} == {None}


@pytest.mark.parametrize("text", ["", "chatcmpl-1", "x" * 39, "ü" * 40, "=" * 40, "A" * 38 + "==", " " * 40, "\0" * 40])
def test_what_is_no_token_is_none(text: str) -> None:
    assert read(text) is None
