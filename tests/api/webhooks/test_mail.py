"""The end of a run as mail, seen by the server that takes it."""

from __future__ import annotations

from email import message_from_string
from typing import TYPE_CHECKING

import pytest
import trio

from api.webhooks import Outbox, Rules
from api.webhooks.mail import Mailer
from api.webhooks.rules import Mail
from tests.api.webhooks.receiver import Mailbox, mailbox
from tests.api.webhooks.test_addresses import delivery
from tests.api.webhooks.test_outbox import hurried as hurried  # a fixture
from tests.api.webhooks.test_outbox import sending, sleeper, until_empty, until_kept

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mailbox() as opened:
        yield opened


def settings(box: Mailbox) -> dict[str, object]:
    return {"host": "127.0.0.1", "port": box.port, "sender": "q@example.org", "tls": "none"}


def outbox_for(box: Mailbox) -> Outbox:
    rule = {"url": "mailto:ops@example.org, boss@example.org"}
    return Outbox(Rules.model_validate({"rule": [rule], "mail": settings(box)}))


async def test_the_end_of_a_run_is_a_mail(box: Mailbox) -> None:
    async with sending(outbox_for(box)) as orchestrator:
        run = await orchestrator.start(sleeper)
        await run.stop(reason="enough\r\nBcc: somebody@else.example")
        await until_empty(orchestrator)
    (text,) = box.got
    mail = message_from_string(text)
    assert mail["From"] == "q@example.org"
    assert mail["To"] == "ops@example.org, boss@example.org"
    assert mail["Bcc"] is None
    assert mail["Subject"] == f"sleeper stopped: {run.id}"
    assert mail["Message-ID"].endswith("@quiesce>")
    body = mail.get_payload()
    assert f"The run {run.id} of the agent sleeper is stopped." in body
    assert "stop: graceful, by user: enough" in body


async def test_a_server_that_is_busy_is_asked_again(box: Mailbox) -> None:
    box.refusals = [b"451 later", b"421 later"]
    async with sending(outbox_for(box)) as orchestrator:
        await (await orchestrator.start(sleeper)).stop()
        await until_empty(orchestrator)
    assert len(box.got) == 1


async def test_a_server_that_will_not_have_it_is_not(box: Mailbox) -> None:
    box.refusals = [b"554 no"]
    async with sending(outbox_for(box)) as orchestrator:
        await (await orchestrator.start(sleeper)).stop()
        dead = await until_kept(orchestrator, state="dead")
    assert dead["error"] == "answered 554 no"
    assert dead["attempts"] == 1


async def test_who_is_refused_is_told_later_and_nobody_else_twice(box: Mailbox) -> None:
    box.unknown = {b"boss@example.org": [b"450 later"]}
    async with sending(outbox_for(box)) as orchestrator:
        await (await orchestrator.start(sleeper)).stop()
        await until_empty(orchestrator)
    assert box.to == [[b"ops@example.org"], [b"boss@example.org"]]
    first, second = map(message_from_string, box.got)
    assert first["Message-ID"] == second["Message-ID"]


async def test_whom_the_server_does_not_know_the_message_is_dead_for(box: Mailbox) -> None:
    box.unknown = {b"boss@example.org": [b"550 who"]}
    async with sending(outbox_for(box)) as orchestrator:
        await (await orchestrator.start(sleeper)).stop()
        dead = await until_kept(orchestrator, state="dead")
    assert (dead["to"], dead["attempts"]) == ("mailto:boss@example.org", 1)
    assert dead["error"] == "answered 550 who (boss@example.org)"
    assert box.to == [[b"ops@example.org"]]


async def test_a_server_that_knows_nobody_has_taken_nothing(box: Mailbox) -> None:
    box.unknown = {b"boss@example.org": [b"550 who"], b"ops@example.org": [b"450 later"]}
    async with sending(outbox_for(box)) as orchestrator:
        await (await orchestrator.start(sleeper)).stop()
        await until_empty(orchestrator)
    assert box.to == [[b"ops@example.org", b"boss@example.org"]]


@pytest.mark.parametrize("farewell", [b"421 too busy", b"500 what?"])
async def test_what_was_taken_has_arrived_however_the_server_takes_its_leave(
    box: Mailbox, farewell: bytes
) -> None:
    box.farewell = farewell
    async with sending(outbox_for(box)) as orchestrator:
        await (await orchestrator.start(sleeper)).stop()
        await until_empty(orchestrator)
    assert len(box.got) == 1


async def test_a_server_that_hangs_is_given_up(
    box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.webhooks.mail.ATTEMPT_S", 0.3)
    box.refusals = [None]
    with trio.fail_after(20):
        mailer = Mailer(Mail.model_validate(settings(box)))
        message = delivery("mailto:a@b.c")
        body = '{"data": {"id": "run_1", "agent": "a", "status": "lost", "created_at": "",'
        body += ' "started_at": "", "ended_at": ""}}'
        outcome = await mailer.send(type(message)(**{**message.json(), "body": body}))
    assert outcome.error == "not sent within 0.3 s"


async def test_no_server_is_an_error_that_passes(box: Mailbox) -> None:
    with mailbox() as gone:
        outbox = outbox_for(gone)
    async with sending(outbox) as orchestrator:
        await (await orchestrator.start(sleeper)).stop()
        waiting = await until_kept(orchestrator, attempts=1)
    assert (waiting["state"], "Refused" in waiting["error"]) == ("waiting", True)
