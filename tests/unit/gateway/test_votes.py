"""Votes and their pace, without a server."""

import pytest

from taskfleet.gateway.errors import AlreadyVotedError, TooManyRequestsError
from taskfleet.gateway.votes import Verdict, VoteRate, Votes


def test_vote_counts_once_and_is_not_changed() -> None:
    votes = Votes(10)
    assert votes.cast(b"a", Verdict.BAD)
    assert not votes.cast(b"a", Verdict.BAD)
    with pytest.raises(AlreadyVotedError, match="as bad"):
        votes.cast(b"a", Verdict.GOOD)
    assert not votes.cast(b"a", Verdict.BAD)


def test_memory_is_bounded_and_the_oldest_vote_goes_first() -> None:
    votes = Votes(2)
    for answer in (b"a", b"b", b"c"):
        assert votes.cast(answer, Verdict.GOOD)
    assert not votes.cast(b"b", Verdict.GOOD)
    assert not votes.cast(b"c", Verdict.GOOD)
    assert votes.cast(b"a", Verdict.GOOD)


def test_caller_has_so_many_votes_a_minute_and_is_told_when_the_next_is_free() -> None:
    rate = VoteRate(6)
    for _ in range(6):
        rate.take("alice", 100.0)
    with pytest.raises(TooManyRequestsError) as refused:
        rate.take("alice", 100.0)
    assert refused.value.retry_after == 10
    with pytest.raises(TooManyRequestsError):
        rate.take("alice", 109.0)
    rate.take("alice", 110.0)
    with pytest.raises(TooManyRequestsError):
        rate.take("alice", 110.0)
    # Nobody pays for another, and a minute's rest gives all of them back.
    rate.take("bob", 110.0)
    for _ in range(6):
        rate.take("alice", 180.0)
