"""Recurring starts: schedules, and the alarm that fires them.

A schedule says up to when its ticks have been dealt with. That becomes durable in one transaction
with the run that a tick starts, so a crash neither loses a tick nor doubles it; and since it only
grows, a clock that is set back fires nothing twice. However many ticks are overdue, one look starts
one run at most, so a clock that is set forward is no storm.
"""

from __future__ import annotations

import logging
import re
import secrets
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import trio

from orchestrator.agent import Agent, as_json
from orchestrator.errors import (
    InvalidInput,
    KeyConflict,
    OrchestratorError,
    ScheduleExists,
    UnknownSchedule,
)
from orchestrator.options import check_name
from orchestrator.schedules.cron import check_cron, next_after
from orchestrator.schedules.schedule import (
    SCHEDULE,
    Missed,
    Overlap,
    Schedule,
    options_of,
    stamp_of,
    time_of,
)
from orchestrator.store.writes import DropDocument, SaveDocument

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.model import RunId
    from orchestrator.run import Run
    from orchestrator.services import Services

_log = logging.getLogger("quiesce.schedules")

COLLECTION = "schedules"
# A tick that is dealt with later than so many seconds is a missed one.
LATE_S = 60.0
# The wall clock is looked at this often, since it may be set.
LOOK_S = 15.0
_PAGE = 500
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class Schedules:
    """The schedules of an orchestrator. Nothing here but ``load`` is a checkpoint.

    What is asked for takes effect before it returns; it is durable, and shown, once ``ticket`` is.

    Attributes:
        ticket: the journal's ticket of the last change.
    """

    def __init__(
        self, services: Services, admit: Callable[..., Run], may_start: Callable[[], bool]
    ) -> None:
        self.ticket = 0
        self._services = services
        self._admit = admit
        self._may_start = may_start
        self._decided: dict[str, Schedule] = {}
        # What of it is durable, and so may be shown.
        self._shown: dict[str, Schedule] = {}
        self._alarm = services.timers.timer(self.look)
        # Whether the journal is to say when the store takes writes again.
        self._awaits_store = False
        self._closed = False

    def shown(self) -> list[Schedule]:
        """Return all schedules, as they are durable, in the order of their ids."""
        return [self._shown[each] for each in sorted(self._shown)]

    def get(self, schedule_id: str) -> Schedule:
        """Return a schedule as it is durable.

        Raises:
            UnknownSchedule: there is none with that id.
        """
        return _find(self._shown, schedule_id)

    def create(
        self,
        agent: Agent | str,
        input: Mapping[str, Any] | None = None,
        *,
        cron: str,
        zone: str = "UTC",
        schedule_id: str | None = None,
        options: Mapping[str, Any] | None = None,
        missed: str = "skip",
        overlap: str = "skip",
        owner: str = "",
    ) -> Schedule:
        """Start an agent again and again, from the next time on at which ``cron`` is due.

        Args:
            cron: five fields, or six with seconds in front.
            zone: the time zone that it speaks of, such as ``Europe/Berlin``.
            schedule_id: 1 to 100 letters, digits, dots, dashes and underscores; made up if None.
            options: of each run. They may name a ``key``; without one the schedule has its own.
            missed: what becomes of ticks at which nothing could start: ``skip`` drops them,
                ``once`` makes up for all of them with one run.
            overlap: what becomes of a tick while a run with the key has not ended: ``allow``
                starts another one beside it, ``skip`` none; ``enqueue`` lets it wait, and
                ``stop_previous`` stops the other one first.

        Raises:
            UnknownAgent, InvalidInput: names what does not fit; nothing was changed.
            ScheduleExists: there is one with that id.
        """
        if isinstance(agent, Agent):
            agent = self._services.catalog.get(agent).name
        now = self._services.now(0)
        schedule = Schedule(
            id=schedule_id or f"schedule_{secrets.token_hex(5)}",
            agent=agent,
            input=as_json(dict(input or {}), "input"),
            options=as_json(dict(options or {}), "options"),
            cron=cron,
            zone=zone,
            missed=missed,  # type: ignore[arg-type]  # checked below
            overlap=overlap,  # type: ignore[arg-type]
            owner=check_name("owner", owner),
            created_at=now,
            dealt_until=now,
        )
        self._check(schedule)
        if schedule.id in self._decided:
            raise ScheduleExists(schedule.id)
        return self._put(self._armed(schedule))

    def pause(self, schedule_id: str) -> Schedule:
        """Fire no more until it is resumed; its runs go on. May be called twice.

        Raises:
            UnknownSchedule: there is none with that id.
        """
        schedule = _find(self._decided, schedule_id)
        return self._put(replace(schedule, paused=True, next_at=None))

    def resume(self, schedule_id: str) -> Schedule:
        """Fire again from now on. What was due in between is over. May be called twice.

        Raises:
            UnknownSchedule: there is none with that id.
            InvalidInput: its time zone is not known on this machine.
        """
        schedule = _find(self._decided, schedule_id)
        if schedule.paused:
            now = self._services.now(0)
            schedule = self._armed(replace(schedule, paused=False, dealt_until=now))
        return self._put(schedule)

    def delete(self, schedule_id: str) -> None:
        """Forget a schedule; its runs go on.

        Raises:
            UnknownSchedule: there is none with that id.
        """
        _find(self._decided, schedule_id)
        del self._decided[schedule_id]
        drop, hide = DropDocument(COLLECTION, schedule_id), partial(self._hide, schedule_id)
        self.ticket = self._services.journal.append([drop], hide, urgent=True)
        self._set_alarm()

    # With the orchestrator

    async def load(self) -> None:
        """Read the schedules that the store has, and begin to fire."""
        last = ""
        while page := await self._services.store.documents(COLLECTION, after=last, limit=_PAGE):
            for last, value in page:
                self._decided[last] = self._armed_if_known(SCHEDULE.validate_json(value))
        self._shown.update(self._decided)
        self.look()

    def close(self) -> None:
        """Fire no more. May be called twice."""
        self._closed = True
        self._alarm.unset()

    # What fires

    def look(self) -> None:
        """Fire what is due, if anything may start; to be called when that may have changed."""
        if self._closed:
            return
        now = self._services.now(0)
        if self._may_start():
            for schedule in list(self._decided.values()):
                if schedule.next_at is not None and time_of(schedule.next_at) <= time_of(now):
                    self._fire(schedule, now)
        self._set_alarm()

    def _fire(self, schedule: Schedule, now: str) -> None:
        """Deal with all ticks that are overdue: with one run, or with none."""
        recent = max(time_of(schedule.dealt_until), time_of(now) - timedelta(seconds=LATE_S))
        tick = next_after(schedule.cron, schedule.zone, recent)
        dealt = self._armed(replace(schedule, dealt_until=now))
        if tick is not None and tick <= time_of(now):
            self._start(dealt, stamp_of(tick))
        elif schedule.missed == "once":
            self._start(dealt, schedule.next_at)
        else:
            self._put(replace(dealt, last_skip="nothing could start at its time"))

    def _start(self, dealt: Schedule, tick: str | None) -> None:
        before = self._decided[dealt.id]
        try:
            run = self._admit(
                dealt.agent, dealt.input, options=options_of(dealt), owner=dealt.owner
            )
        except OrchestratorError as error:
            level = logging.INFO if isinstance(error, KeyConflict) else logging.WARNING
            _log.log(level, "schedule %s started nothing: %s", dealt.id, error)
            self._put(replace(dealt, last_skip=str(error)))
        else:
            fired = replace(dealt, last_at=tick, last_run_id=run.id, last_skip="")
            self._put(fired, along=run.start_ticket)
            run.ledger.on_withdrawal(partial(self._take_back, before, run.id))

    def _take_back(self, before: Schedule, run_id: RunId, ticket: int) -> int:
        """Let a tick be due again whose run was not stored."""
        known = self._decided.get(before.id)
        if known is not None and known.last_run_id == run_id:
            again = replace(
                known,
                dealt_until=before.dealt_until,
                last_at=before.last_at,
                last_run_id=before.last_run_id,
            )
            self._put(self._armed(again), along=ticket)
        return self.ticket

    def _set_alarm(self) -> None:
        """Look again when one is due, and before that if the clock might be set meanwhile."""
        due = [time_of(each.next_at) for each in self._decided.values() if each.next_at]
        if self._closed or not due:
            self._alarm.unset()
            return
        left_s = (min(due) - time_of(self._services.now(0))).total_seconds()
        if left_s <= 0:
            # It could not start: everything is halted, or the store does not take it.
            self._await_store()
        self._alarm.set(trio.current_time() + (min(left_s, LOOK_S) if left_s > 0 else LOOK_S))

    def _await_store(self) -> None:
        journal = self._services.journal
        if journal.failing is not None and not self._awaits_store:
            self._awaits_store = True
            journal.append([], self._look_again)

    def _look_again(self) -> None:
        self._awaits_store = False
        self.look()

    # What is kept

    def _check(self, schedule: Schedule) -> None:
        for name, known in (("missed", get_args(Missed)), ("overlap", get_args(Overlap))):
            if (value := getattr(schedule, name)) not in known:
                raise InvalidInput([(name, f"{value!r} is not one of {', '.join(known)}")])
        if not _ID.fullmatch(schedule.id):
            why = "must be 1 to 100 letters, digits, dots, dashes and underscores, not a dash first"
            raise InvalidInput([("id", why)])
        if "on_conflict" in schedule.options:
            raise InvalidInput([("options.on_conflict", "is what overlap says; leave it out")])
        agent = self._services.catalog.get(schedule.agent)
        agent.parse(schedule.input, self._services.catalog)
        agent.parse_options(options_of(schedule))
        check_cron(schedule.cron, schedule.zone, time_of(schedule.created_at))

    def _armed(self, schedule: Schedule) -> Schedule:
        """Return the schedule with the time at which it fires next."""
        if schedule.paused:
            return schedule
        due = next_after(schedule.cron, schedule.zone, time_of(schedule.dealt_until))
        return replace(schedule, next_at=None if due is None else stamp_of(due))

    def _armed_if_known(self, schedule: Schedule) -> Schedule:
        """The same, of one that another machine may have made: its zone need not be known here,
        and then it fires nothing and says why, but keeps nobody from opening the store."""
        try:
            return self._armed(schedule)
        except InvalidInput as error:
            _log.warning("schedule %s starts nothing: %s", schedule.id, error)
            return replace(schedule, next_at=None, last_skip=str(error))

    def _put(self, schedule: Schedule, along: int | None = None) -> Schedule:
        journal = self._services.journal
        self._decided[schedule.id] = schedule
        save = SaveDocument(COLLECTION, schedule.id, SCHEDULE.dump_json(schedule))
        if along is not None:
            # In one transaction with the run: the tick is neither lost nor doubled.
            journal.attach(along, [save])
        show = partial(self._show, schedule)
        self.ticket = journal.append([] if along is not None else [save], show, urgent=True)
        self._set_alarm()
        return schedule

    def _show(self, schedule: Schedule) -> None:
        self._shown[schedule.id] = schedule

    def _hide(self, schedule_id: str) -> None:
        del self._shown[schedule_id]


def _find(known: Mapping[str, Schedule], schedule_id: str) -> Schedule:
    if schedule_id not in known:
        raise UnknownSchedule(schedule_id)
    return known[schedule_id]
