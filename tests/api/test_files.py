"""What a run has brought, over a real socket; none of it can harm who looks at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.api.agents import PNG
from tests.api.test_controls import ended, refused, start, until_it_asks

if TYPE_CHECKING:
    import httpx


@pytest.mark.parametrize(
    ("name", "kind", "disposition"),
    [
        ("page.html", "text/html", 'attachment; filename="page.html"'),
        ("odd", "x/odd", 'attachment; filename="odd"'),
        ("notes.txt", "text/plain; charset=utf-8", None),
        ("view", "image/png", None),
    ],
)
async def test_a_file_is_shown_or_saved_but_never_run(
    client: httpx.AsyncClient, name: str, kind: str, disposition: str | None
) -> None:
    path = await start(client, "painter")
    await ended(client, path)

    file = await client.get(f"{path}/artifacts/{name}")

    assert file.status_code == 200
    assert file.headers["Content-Type"] == kind
    assert file.headers.get("Content-Disposition") == disposition
    assert file.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in file.headers["Content-Security-Policy"].split("; ")
    assert "X-Evil" not in file.headers


async def test_files_are_listed(client: httpx.AsyncClient) -> None:
    path = await start(client, "painter")
    await ended(client, path)
    kept = (await client.get(f"{path}/artifacts")).json()["artifacts"]
    assert {each["name"]: each["size"] for each in kept} == {
        "page.html": 25,
        "odd": 1,
        "notes.txt": 5,
        "view": 9,
    }


async def test_the_view_is_the_latest_picture_and_its_etag_saves_the_body(
    client: httpx.AsyncClient,
) -> None:
    path = await start(client, "painter", frames=2)
    question = await until_it_asks(client, path)

    first = await client.get(f"{path}/view")
    same = await client.get(f"{path}/view", headers={"If-None-Match": first.headers["ETag"]})
    order = {"question_id": question["question_id"], "answer": None}
    await client.post(f"{path}/answer", json=order)
    await ended(client, path)
    later = await client.get(f"{path}/view", headers={"If-None-Match": first.headers["ETag"]})

    assert (first.content, first.headers["Content-Type"]) == (PNG + b"\x00", "image/png")
    assert first.headers["Cache-Control"] == "no-cache"
    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["ETag"] == first.headers["ETag"]
    assert (later.status_code, later.content) == (200, PNG + b"\x01")


async def test_what_a_run_does_not_have_is_a_404(client: httpx.AsyncClient) -> None:
    path = await start(client, "echo", text="x")
    await ended(client, path)
    for what in ("view", "artifacts/nope", "artifacts/%ff"):
        problem = refused(await client.get(f"{path}/{what}"), 404, "no-artifact")
        assert (problem["run_id"], problem["run_status"]) == (path[6:], "succeeded")


@pytest.mark.parametrize("what", ["partial", "artifacts", "artifacts/x", "view"])
async def test_an_unknown_run_has_nothing(client: httpx.AsyncClient, what: str) -> None:
    assert refused(await client.get(f"/runs/x/{what}"), 404, "unknown-run")["run_id"] == "x"


async def test_a_partial_result_is_null_until_there_is_one(client: httpx.AsyncClient) -> None:
    path = await start(client, "sleeper")
    nothing = await client.get(f"{path}/partial")
    assert (nothing.status_code, nothing.json()) == (200, None)
    etag = {"If-None-Match": nothing.headers["ETag"]}
    assert (await client.get(f"{path}/partial", headers=etag)).status_code == 304
    path = await start(client, "echo", text="xyz")
    await ended(client, path)
    some = await client.get(f"{path}/partial", headers=etag)
    assert (some.status_code, some.json()) == (200, {"text": "x"})
