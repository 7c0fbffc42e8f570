"""Which deliveries may go now."""

from __future__ import annotations

from math import inf

from api.webhooks.outbox import FIRST_S, JITTER, LONGEST_S, delay_s
from api.webhooks.schedule import MOST, MOST_OF_HOST, Schedule


def test_what_is_due_goes_once_and_in_order() -> None:
    schedule = Schedule()
    for when, name in ((3.0, "c"), (1.0, "a"), (2.0, "b")):
        schedule.add(name, name, when)
    schedule.add("a", "a", 0.0)
    assert (len(schedule), schedule.next_due) == (3, 1.0)
    assert schedule.take(0.5) == []
    assert schedule.take(2.0) == ["a", "b"]
    assert schedule.take(2.0) == []
    assert schedule.next_due == 3.0
    assert not schedule.idle


def test_one_that_was_tried_may_be_added_again_once_it_is_forgotten() -> None:
    schedule = Schedule()
    schedule.add("a", "h", 0.0)
    assert schedule.take(0.0) == ["a"]
    schedule.add("a", "h", 0.0)
    assert schedule.take(0.0) == []
    schedule.done("a")
    assert (schedule.idle, len(schedule), schedule.next_due) == (True, 1, inf)
    schedule.add("a", "h", 0.0)
    assert schedule.take(0.0) == []
    schedule.forget("a")
    assert len(schedule) == 0
    schedule.add("a", "h", 1.0)
    assert schedule.take(1.0) == ["a"]


def test_one_that_waits_may_be_hastened_and_never_delayed() -> None:
    schedule = Schedule()
    for name in ("a", "b", "c"):
        schedule.add(name, name, 5.0)
    schedule.hasten("c", 1.0)
    schedule.hasten("b", 9.0)
    schedule.hasten("nobody", 0.0)
    assert (len(schedule), schedule.next_due) == (3, 1.0)
    assert schedule.take(1.0) == ["c"]
    schedule.hasten("c", 0.0)
    assert schedule.take(1.0) == []
    assert schedule.take(5.0) == ["a", "b"]


def test_a_host_that_hangs_leaves_room_for_others() -> None:
    schedule = Schedule()
    for n in range(3 * MOST):
        schedule.add(f"slow {n}", "slow", 0.0)
    schedule.add("other", "other", 1.0)
    assert len(schedule.take(0.0)) == MOST_OF_HOST
    assert schedule.take(1.0) == ["other"]
    schedule.done("slow 0")
    assert len(schedule.take(1.0)) == 1


def test_there_are_only_so_many_in_all() -> None:
    schedule = Schedule()
    for n in range(3 * MOST):
        schedule.add(str(n), f"host {n}", 0.0)
    taken = schedule.take(0.0)
    assert len(taken) == MOST
    assert not schedule.idle
    schedule.done(taken[0])
    assert len(schedule.take(0.0)) == 1


def test_the_wait_grows_and_is_bounded_and_not_the_same_for_all() -> None:
    waits = [[delay_s(attempts) for _ in range(20)] for attempts in range(1, 12)]
    for attempts, sample in enumerate(waits):
        steady = min(FIRST_S * 3**attempts, LONGEST_S)
        assert all(steady * (1 - JITTER) <= each <= steady * (1 + JITTER) for each in sample)
        assert len(set(sample)) > 1
    assert delay_s(10_000) <= LONGEST_S * (1 + JITTER)
