"""The durable outbox: a message is written with the end of its run, and kept until it has arrived.

At least once: a crash between an arrival and its note makes it arrive again, with the same id.
"""

from __future__ import annotations

import logging
import random
import time
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio
from prometheus_client import Counter, Gauge
from pydantic_core import to_json

from api.webhooks.addresses import Networks
from api.webhooks.mail import Mailer
from api.webhooks.message import (
    COLLECTION,
    Delivery,
    State,
    again,
    delivery_of,
    read_delivery,
)
from api.webhooks.rules import MAILTO, Rules
from api.webhooks.schedule import Schedule
from api.webhooks.sending import Outcome, post
from orchestrator import Observer, SaveDocument, StoreDamaged, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from prometheus_client import CollectorRegistry

    from orchestrator import Event, Orchestrator, RunRecord

_log = logging.getLogger("quiesce.webhooks")

# The wait after the first failure, its growth with each, and the most that it becomes; give or
# take a fifth, so that what failed together is not tried together.
FIRST_S = 5.0
GROWTH = 3.0
LONGEST_S = 3600.0
JITTER = 0.2
# After that a delivery is dead: kept and shown, and not tried any more. And then it is removed.
MOST_AGE_S = 86_400.0
KEEP_DEAD_S = 30 * 86_400.0
SWEEP_S = 3600.0
# What is due when the process ends gets so long; the next one goes on with the rest.
CLOSE_S = 3.0
PAGE = 500


class Outbox(Observer):
    """Tells whoever wants to know that a run has ended; one message a tree, never one a child.

    Args:
        rules: who wants to know, besides those that starters name.
        networks: where webhooks may go.
        clock: the wall clock, in seconds; for tests.
    """

    def __init__(
        self,
        rules: Rules | None = None,
        networks: Networks | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rules = rules or Rules()
        self._networks = networks or Networks()
        self._mailer = Mailer(self._rules.mail) if self._rules.mail is not None else None
        self._clock = clock
        self._schedule = Schedule()
        self._decided: dict[str, list[Delivery]] = {}
        self._orchestrator: Orchestrator | None = None
        self._turn = trio.Event()
        self._attempts = Counter(
            "quiesce_webhook_attempts",
            "Attempts to deliver a message, and what came of them.",
            ["outcome"],
            registry=None,
        )
        self._waiting = Gauge("quiesce_webhooks_waiting", "Messages on their way.", registry=None)
        self._waiting.set_function(lambda: len(self._schedule))
        for outcome in ("delivered", "failed", "dead"):
            self._attempts.labels(outcome)

    def register(self, registry: CollectorRegistry) -> None:
        """Let a registry show how deliveries go."""
        registry.register(self._attempts)
        registry.register(self._waiting)

    # As the observer that writes messages

    def ending(self, event: Event, record: RunRecord) -> Sequence[SaveDocument]:
        """Return the messages about the end of a root, to be stored together with it."""
        if record.parent_id is not None:
            return ()
        made = [delivery_of(event, record, to) for to in self._rules.targets_of(record)]
        if made:
            self._decided[record.id] = made
        return [SaveDocument(COLLECTION, each.id, to_json(each.json())) for each in made]

    def shown(self, event: Event, record: RunRecord) -> None:
        """Send the messages about an end once it is durable."""
        if self._decided and record.status.is_terminal:
            for delivery in self._decided.pop(record.id, ()):
                self._plan(delivery)

    # As the service that sends them

    @asynccontextmanager
    async def sending(self, orchestrator: Orchestrator) -> AsyncIterator[None]:
        """Send what waits, and whatever comes, for the time of the body, and then what is due."""
        self._orchestrator = orchestrator
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sweep)
            nursery.start_soon(self._send_all)
            yield
            await self.settle()
            nursery.cancel_scope.cancel()

    async def _send_all(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                turn = self._turn
                for delivery_id in self._schedule.take(trio.current_time()):
                    nursery.start_soon(self._attempt, delivery_id)
                with trio.move_on_at(self._schedule.next_due):
                    await turn.wait()

    async def settle(self) -> None:
        """Wait until everything that is due was tried, for a few seconds at most."""
        with trio.move_on_after(CLOSE_S):
            while not self._schedule.idle or self._schedule.next_due <= trio.current_time():
                await self._turn.wait()

    async def retry(self, delivery: Delivery) -> Delivery:
        """Try a delivery now, also a dead one; durable when this returns, if the store works."""
        fresh = again(delivery, self._after(0))
        await self._keep(fresh)
        self._schedule.hasten(fresh.id, trio.current_time())
        self._plan(fresh)
        return fresh

    async def _sweep(self) -> None:
        """Plan what is in the store, at first; remove what has been dead for long, every hour."""
        while True:
            try:
                await self._look_through()
            except (StoreUnavailable, StoreDamaged) as error:
                _log.warning("the outbox cannot be read: %s", error)
            await trio.sleep(SWEEP_S)

    async def _look_through(self) -> None:
        assert self._orchestrator is not None
        last = ""
        while True:
            found = await self._orchestrator.kept(COLLECTION, after=last, limit=PAGE)
            for _, stored in found:
                delivery = read_delivery(stored)
                if delivery.state is State.WAITING:
                    self._plan(delivery)
                elif self._age_of(delivery) > KEEP_DEAD_S:
                    self._orchestrator.drop(COLLECTION, delivery.id)
            if len(found) < PAGE:
                return
            last = found[-1][0]

    async def _attempt(self, delivery_id: str) -> None:
        """Try one delivery, and note what came of it."""
        delivery, outcome, unread = None, Outcome(), False
        try:
            delivery = await self._read(delivery_id)
            if delivery is not None:
                outcome = await self._send(delivery)
        except StoreUnavailable:
            unread = True
        except Exception as error:
            _log.exception("a delivery failed")
            outcome = Outcome(f"{type(error).__name__}: {error}"[:500])
        finally:
            self._schedule.done(delivery_id)
            self._wake()
        left = None if delivery is None else await self._note(delivery, outcome)
        # Not before what came of it is durable: what is read of the outbox is older until then.
        self._schedule.forget(delivery_id)
        if unread:
            self._schedule.add(delivery_id, "", trio.current_time() + FIRST_S)
        elif left is not None:
            self._plan(left)

    async def _read(self, delivery_id: str) -> Delivery | None:
        assert self._orchestrator is not None
        stored = await self._orchestrator.kept_one(COLLECTION, delivery_id)
        delivery = None if stored is None else read_delivery(stored)
        return delivery if delivery is not None and delivery.state is State.WAITING else None

    async def _send(self, delivery: Delivery) -> Outcome:
        if not delivery.to.startswith(MAILTO):
            secret = self._rules.secret_of(delivery.to)
            return await post(delivery, secret, self._networks, int(self._clock()))
        if self._mailer is None:
            return Outcome("there is no table [mail] any more", for_good=True)
        return await self._mailer.send(delivery)

    async def _note(self, delivery: Delivery, outcome: Outcome) -> Delivery | None:
        """Make durable what came of an attempt; return the delivery if it is to be tried again."""
        assert self._orchestrator is not None
        about = {"delivery": delivery.id, "run_id": delivery.run_id, "to": host_of(delivery.to)}
        if not outcome.error:
            self._attempts.labels("delivered").inc()
            dropped = self._orchestrator.drop(COLLECTION, delivery.id)
            _log.info("delivered", extra={**about, "attempts": delivery.attempts + 1})
            await _durable(self._orchestrator, dropped)
            return None
        failed = self._failed(delivery, outcome)
        await self._keep(failed)
        dead = failed.state is State.DEAD
        self._attempts.labels("dead" if dead else "failed").inc()
        _log.log(
            logging.WARNING if dead else logging.INFO,
            "delivery is dead" if dead else "delivery failed",
            extra={**about, "attempts": failed.attempts, "error": failed.error},
        )
        return None if dead else failed

    def _failed(self, delivery: Delivery, outcome: Outcome) -> Delivery:
        attempts = delivery.attempts + 1
        wait_s = max(delay_s(attempts), outcome.retry_after_s)
        given_up = outcome.for_good or self._age_of(delivery) + wait_s > MOST_AGE_S
        return Delivery(
            id=delivery.id,
            run_id=delivery.run_id,
            to=outcome.left_to or delivery.to,
            body=delivery.body,
            created_at=delivery.created_at,
            next_at=None if given_up else self._after(wait_s),
            state=State.DEAD if given_up else State.WAITING,
            attempts=attempts,
            error=outcome.error,
        )

    async def _keep(self, delivery: Delivery) -> None:
        """Store a delivery before it is planned: the next attempt reads it."""
        assert self._orchestrator is not None
        ticket = self._orchestrator.keep(COLLECTION, delivery.id, delivery.json())
        await _durable(self._orchestrator, ticket)

    def _plan(self, delivery: Delivery) -> None:
        assert delivery.next_at is not None
        left_s = datetime.fromisoformat(delivery.next_at).timestamp() - self._clock()
        when = trio.current_time() + max(0.0, left_s)
        self._schedule.add(delivery.id, host_of(delivery.to), when)
        self._wake()

    def _wake(self) -> None:
        self._turn.set()
        self._turn = trio.Event()

    def _age_of(self, delivery: Delivery) -> float:
        return self._clock() - datetime.fromisoformat(delivery.created_at).timestamp()

    def _after(self, seconds: float) -> str:
        at = datetime.fromtimestamp(self._clock(), UTC) + timedelta(seconds=min(seconds, 1e9))
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def _durable(orchestrator: Orchestrator, ticket: int) -> None:
    with suppress(StoreUnavailable):  # it is stored as soon as the store takes it
        await orchestrator.durable(ticket)


def delay_s(attempts: int) -> float:
    """Return how long to wait after so many failed attempts."""
    steady = min(FIRST_S * GROWTH ** (attempts - 1), LONGEST_S) if attempts < 50 else LONGEST_S
    return steady * random.uniform(1 - JITTER, 1 + JITTER)


def host_of(target: str) -> str:
    """Return what tells targets apart whose attempts must not crowd out those of others."""
    if target.startswith(MAILTO):
        return MAILTO
    return urlsplit(target).hostname or ""
