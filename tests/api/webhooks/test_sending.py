"""One attempt, and what it makes of all that the other side may do."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest
import trio

from api.webhooks.message import Delivery
from api.webhooks.sending import headers_of, post
from tests.api.webhooks.receiver import SECRET, receiving
from tests.api.webhooks.test_addresses import LOOPBACK, delivery


def test_a_message_is_signed_as_standard_webhooks_has_it() -> None:
    """The vector that its libraries are tested with."""
    at = "2021-02-25T15:02:10.000Z"
    message = Delivery(
        id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        run_id="",
        to="",
        body='{"test": 2432232314}',
        created_at=at,
        next_at=at,
    )
    headers = headers_of(message, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 1614265330)
    assert headers["webhook-id"] == "msg_p5jXN8AQM9LWM0D4loKWxJek"
    assert headers["webhook-timestamp"] == "1614265330"
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_without_a_secret_there_is_no_signature() -> None:
    assert "webhook-signature" not in headers_of(delivery("http://a"), None, 0)


@pytest.mark.parametrize(
    ("status", "error", "for_good"),
    [
        (200, "", False),
        (204, "", False),
        (301, "answered 301; redirects are not followed", False),
        (307, "answered 307; redirects are not followed", False),
        (400, "answered 400", False),
        (410, "answered 410", True),
        (500, "answered 500", False),
    ],
)
async def test_an_answer_means_what_its_status_says(
    status: int, error: str, for_good: bool
) -> None:
    with trio.fail_after(20), receiving() as receiver, receiving() as elsewhere:
        receiver.answers = [status]
        receiver.headers = {"Location": elsewhere.url}
        outcome = await post(delivery(receiver.url), SECRET, LOOPBACK, 0)
        assert (outcome.error, outcome.for_good) == (error, for_good)
        assert (len(receiver.got), elsewhere.got) == (1, [])


@pytest.mark.parametrize(
    ("said", "wait_s"),
    [
        ("7", 7.0),
        ("9999999", 3600.0),
        ("soon", 0.0),
        ("Thu, 01 Jan 1970 00:02:03 GMT", 123.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
        ("Wed, 31 Dec 1969 23:59:59 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:02:03 -0000", 123.0),
        ("Thu, 99 Jan 1970 00:02:03 GMT", 0.0),
    ],
)
async def test_it_may_ask_to_be_left_alone(said: str, wait_s: float) -> None:
    with trio.fail_after(20), receiving() as receiver:
        receiver.answers = [503]
        receiver.headers = {"Retry-After": said}
        outcome = await post(delivery(receiver.url), SECRET, LOOPBACK, 0)
        assert outcome.retry_after_s == wait_s


async def test_one_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.webhooks.sending.ATTEMPT_S", 0.3)
    with trio.fail_after(20), receiving() as receiver:
        receiver.answers = [None]
        outcome = await post(delivery(receiver.url), SECRET, LOOPBACK, 0)
        assert outcome.error == "no answer within 0.3 s"


async def test_one_that_answers_without_end_is_not_listened_to() -> None:
    left = threading.Event()

    def serve(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client:
            client.recv(65536)
            client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            try:
                while True:
                    client.sendall(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")
            except OSError:
                left.set()

    with trio.fail_after(20), socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert (await post(delivery(url), SECRET, LOOPBACK, 0)).error == ""
        assert await trio.to_thread.run_sync(left.wait, 10)


async def test_headers_without_end_are_an_error() -> None:
    def serve(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client:
            client.recv(65536)
            with suppress(OSError):
                client.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000)

    with trio.fail_after(20), socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        outcome = await post(delivery(url), SECRET, LOOPBACK, 0)
    assert outcome.error
    assert len(outcome.error) <= 500


async def test_nobody_there_is_an_error_that_passes() -> None:
    with trio.fail_after(20):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        outcome = await post(delivery(url), SECRET, LOOPBACK, 0)
    assert "ConnectError" in outcome.error
    assert not outcome.for_good


async def test_a_host_that_could_not_exist_is_an_error_and_no_mistake_of_ours() -> None:
    outcome = await post(delivery("http://a..b/"), SECRET, LOOPBACK, 0)
    # Which one depends on the version of Python.
    assert outcome.error.startswith(("UnicodeError: ", "UnicodeEncodeError: "))
    assert not outcome.for_good
