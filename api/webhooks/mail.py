"""One attempt to deliver a message as mail, in a thread and in bounded time."""

from __future__ import annotations

import json
import smtplib
import ssl
from email.message import EmailMessage
from functools import partial
from typing import TYPE_CHECKING

import trio

from api.logs.fields import clean_text
from api.webhooks.rules import MAILTO, recipients
from api.webhooks.sending import Outcome

if TYPE_CHECKING:
    from api.webhooks.message import Delivery
    from api.webhooks.rules import Mail

ATTEMPT_S = 30.0
# Of one exchange with the server.
EXCHANGE_S = 10.0
THREADS = 4


class Mailer:
    """Sends mail through one server."""

    def __init__(self, settings: Mail) -> None:
        self._settings = settings
        self._threads = trio.CapacityLimiter(THREADS)

    async def send(self, delivery: Delivery) -> Outcome:
        """Send a message to its addresses."""
        message = message_of(delivery, self._settings.sender)
        with trio.move_on_after(ATTEMPT_S):
            return await trio.to_thread.run_sync(
                partial(_send, self._settings, message),
                abandon_on_cancel=True,
                limiter=self._threads,
            )
        return Outcome(f"not sent within {ATTEMPT_S:g} s")


def message_of(delivery: Delivery, sender: str) -> EmailMessage:
    """Return a delivery as mail; its id is the same in every attempt."""
    told = json.loads(delivery.body)
    run = told["data"]
    message = EmailMessage()
    message["From"] = sender
    message["To"] = ", ".join(recipients(delivery.to))
    message["Subject"] = _line(f"{run['agent']} {run['status']}: {run['id']}")
    message["Message-ID"] = f"<{delivery.id}@quiesce>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content("\n".join(_lines(run)) + "\n")
    return message


def _lines(run: dict[str, object]) -> list[str]:
    shown = [f"The run {run['id']} of the agent {run['agent']} is {run['status']}.", ""]
    shown += [f"{name}: {run[name]}" for name in ("created_at", "started_at", "ended_at")]
    match run:
        case {"error": {"type": kind, "message": said}}:
            shown.append(f"error: {kind}: {said}")
        case {"stop": {"mode": mode, "source": source, "reason": reason, "outcome": outcome}}:
            shown.append(f"stop: {mode}, by {source}: {reason or 'no reason given'} ({outcome})")
    return [_line(each) for each in shown]


def _line(text: str) -> str:
    return clean_text(text[:500]).replace("\n", " ")


def _send(settings: Mail, message: EmailMessage) -> Outcome:
    connect = smtplib.SMTP
    if settings.tls == "tls":
        connect = partial(smtplib.SMTP_SSL, context=ssl.create_default_context())  # type: ignore[assignment]  # a kind of it
    outcome = None
    try:
        with connect(settings.host, settings.port, timeout=EXCHANGE_S) as server:
            if settings.tls == "starttls":
                server.starttls(context=ssl.create_default_context())
            if settings.user:
                server.login(settings.user, settings.password)
            outcome = _refused(server.send_message(message), arrived=True)
    except (smtplib.SMTPException, OSError) as error:
        # Once it was taken, it means nothing how the server takes its leave.
        outcome = outcome or _failure(error)
    return outcome


def _failure(error: smtplib.SMTPException | OSError) -> Outcome:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return _refused(error.recipients, arrived=False)
    if isinstance(error, smtplib.SMTPResponseException):
        # 5xx: the server will not have it, now or ever.
        said = f"{error.smtp_code} {_words(error.smtp_error)}"
        return Outcome(f"answered {said}"[:500], for_good=error.smtp_code >= 500)
    return Outcome(f"{type(error).__name__}: {error}"[:500])


def _refused(refused: dict[str, tuple[int, bytes]], *, arrived: bool) -> Outcome:
    """Return what comes of addresses that were refused, if any were.

    Args:
        arrived: all others have got the message.
    """
    if not refused:
        return Outcome()
    said = [f"{code} {_words(text)} ({to})" for to, (code, text) in refused.items()]
    return Outcome(
        f"answered {', '.join(said)}"[:500],
        for_good=all(code >= 500 for code, _ in refused.values()),
        left_to=MAILTO + ",".join(refused) if arrived else "",
    )


def _words(said: bytes | str) -> str:
    return said.decode(errors="replace") if isinstance(said, bytes) else said
