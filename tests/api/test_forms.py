"""Starts with files, over a real socket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio

from api.app import MAX_BODY
from api.service import open_server
from orchestrator import Context, Orchestrator, agent, open_orchestrator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

Files = list[tuple[str, tuple[str, bytes, str]]]

ONE: Files = [("any", ("book.txt", b"once upon a time", "text/plain"))]


@agent
async def librarian(ctx: Context, books: list[str]) -> dict[str, int]:
    """Count the bytes of books."""
    await ctx.artifact("own.txt", b"mine")
    return {name: len(await ctx.file(name)) for name in [*books, "own.txt"]}


@pytest.fixture
async def served() -> AsyncIterator[Orchestrator]:
    async with open_orchestrator(agents=[librarian]) as opened:
        yield opened


@pytest.fixture
async def url(served: Orchestrator) -> AsyncIterator[str]:
    async with open_server(served) as base:
        yield base


async def start(
    client: httpx.AsyncClient, files: Files, *books: str, **more: Any
) -> httpx.Response:
    order = {"agent": "librarian", "input": {"books": books}} | more.pop("order", {})
    form = {"order": json.dumps(order)}
    return await client.post("/runs?wait_s=30", data=form, files=files, **more)


@pytest.mark.parametrize("isolation", ["task", pytest.param("process", marks=pytest.mark.slow)])
async def test_an_agent_reads_the_files_that_its_run_was_started_with(
    client: httpx.AsyncClient, isolation: str
) -> None:
    binary = bytes(range(256)) * 1000
    files: Files = [*ONE, ("any", ("b.pdf", binary, "application/pdf"))]
    options = {"options": {"isolation": isolation}}
    answer = await start(client, files, "book.txt", "b.pdf", order=options, timeout=60)

    assert answer.status_code == 201, answer.text
    run = answer.json()
    assert run["result"] == {"book.txt": 16, "b.pdf": 256_000, "own.txt": 4}
    listed = (await client.get(f"/runs/{run['id']}/artifacts")).json()["artifacts"]
    assert listed == [
        {"name": "b.pdf", "media_type": "application/pdf", "size": 256_000},
        {"name": "book.txt", "media_type": "text/plain", "size": 16},
        {"name": "own.txt", "media_type": "application/octet-stream", "size": 4},
    ]
    again = await client.get(f"/runs/{run['id']}/artifacts/b.pdf")
    assert (again.content, again.headers["Content-Type"]) == (binary, "application/pdf")


async def test_a_rerun_has_the_same_files(client: httpx.AsyncClient, served: Orchestrator) -> None:
    first = (await start(client, ONE, "book.txt")).json()
    for _ in range(2):
        answer = await client.post(f"/runs/{first['id']}/rerun?wait_s=30")
        first = answer.json()
        assert first["result"] == {"book.txt": 16, "own.txt": 4}
        assert (await served.get(first["id"])).files == ("book.txt",)


async def test_a_run_without_that_file_says_so(client: httpx.AsyncClient) -> None:
    run = (await start(client, ONE, "other.txt")).json()
    assert run["status"] == "failed"
    assert run["error"]["message"] == "name: the run has no file 'other.txt'"


async def test_a_key_is_for_these_files(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k"}
    first = await start(client, ONE, "book.txt", headers=headers)
    same = await start(client, ONE, "book.txt", headers=headers)
    assert same.json()["id"] == first.json()["id"]
    changed: Files = [("any", ("book.txt", b"twice upon a time", "text/plain"))]
    other = await start(client, changed, "book.txt", headers=headers)
    assert (other.status_code, other.json()["type"]) == (422, "urn:quiesce:key-reused")


@pytest.mark.parametrize(
    ("files", "field"),
    [
        ([("a", ("../x", b"", "text/plain"))], "a.name"),
        ([("a", ("x/y", b"", "text/plain"))], "a.name"),
        ([*ONE, ("f", ("x" * 201, b"", "text/plain"))], "f.name"),
        ([*ONE, ("f", ("x", b"", "text"))], "f.media_type"),
        ([("a", ("x", b"1", "text/plain")), ("b", ("x", b"2", "text/plain"))], "files"),
        ([("a", (f"{n}", b"", "text/plain")) for n in range(100)], "body"),
    ],
)
async def test_files_that_cannot_be_kept_start_nothing(
    client: httpx.AsyncClient, served: Orchestrator, files: Files, field: str
) -> None:
    answer = await start(client, files)
    assert answer.status_code == 422, answer.text
    assert [each["field"] for each in answer.json()["errors"]] == [field]
    assert (await served.runs()).runs == ()


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({}, "order"),
        ({"order": "{"}, "order"),
        ({"order": "[" * 100_000 + "]" * 100_000}, "order"),
        ({"order": ["{}", "{}"]}, "order"),
        ({"order": "{}"}, "agent"),
        ({"order": "[]"}, "body"),
        ({"order": "{}", "input": "{}"}, "input"),
    ],
)
async def test_a_form_that_is_no_start_names_the_field(
    client: httpx.AsyncClient, form: dict[str, Any], field: str
) -> None:
    answer = await client.post("/runs", data=form, files=ONE)
    assert answer.status_code == 422, answer.text
    assert field in [each["field"] for each in answer.json()["errors"]]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\nno header\r\n\r\n\r\n--x--"),
        ("multipart/form-data; boundary=", b"--\r\n\r\n"),
    ],
)
async def test_what_is_no_form_is_refused(
    client: httpx.AsyncClient, kind: str, body: bytes
) -> None:
    answer = await client.post("/runs", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 422, answer.text
    assert "is no multipart/form-data with the boundary" in answer.json()["errors"][0]["message"]


async def test_no_other_call_takes_files(client: httpx.AsyncClient) -> None:
    run = (await start(client, ONE, "book.txt")).json()
    answer = await client.post(f"/runs/{run['id']}/rerun", data={"order": "{}"}, files=ONE)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:quiesce:malformed-json")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_form_beyond_the_limit_is_cut_off_as_it_comes(
    url: str, client: httpx.AsyncClient, served: Orchestrator, chunked: bool
) -> None:
    """What is beyond the limit is not even read: far less is taken than is sent."""
    piece, sent = b"x" * 65_536, 0
    how = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {20 * MAX_BODY}"
    head = (
        "POST /runs HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\n{how}\r\n\r\n"
    )
    with trio.fail_after(30):
        async with await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2])) as tcp:
            await tcp.send_all(head.encode())
            answer = b""

            async def send() -> None:
                nonlocal sent
                while sent < 20 * MAX_BODY:
                    frame = b"10000\r\n" + piece + b"\r\n" if chunked else piece
                    await tcp.send_all(frame)
                    sent += len(piece)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                answer = await tcp.receive_some()
                nursery.cancel_scope.cancel()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert sent < 4 * MAX_BODY
    assert (await client.get("/healthz")).status_code == 200
    assert (await served.runs()).runs == ()
