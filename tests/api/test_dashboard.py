"""The pages as the server sends them: shells that cannot be out of date, and files that fit."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

import pytest

import orchestrator.events
from api.dashboard.assets import FILES, FOLDER, VERSION
from orchestrator.events import Payload, RunEnded, UserEvent

if TYPE_CHECKING:
    import httpx

MODULES = {name: file.content.decode() for name, file in FILES.items() if name.endswith(".js")}
PAGES = ("/", "/dashboard/runs/run_0", "/dashboard/schedules", "/dashboard/login")
ENTRIES = {"list.js", "run.js", "schedules.js", "login.js", "theme.js"}


def imports_of(module: str) -> set[str]:
    return set(re.findall(r"(?:from|import) '\./([\w.-]+)'", MODULES[module]))


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_holds_nothing_that_could_be_wrong_or_run(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    html = answer.text
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", html)
    for address in re.findall(r'(?:src|href)="([^"#]+)', html):
        assert address.startswith("/"), "everything comes from this server"
        assert (await client.get(address)).status_code == 200


async def test_the_name_of_a_run_is_text(client: httpx.AsyncClient) -> None:
    answer = await client.get("/dashboard/runs/%22%3E%3Cscript%3E")
    assert 'data-run="&#34;&gt;&lt;script&gt;"' in answer.text


@pytest.mark.parametrize("name", FILES)
async def test_a_file_is_kept_since_its_address_changes_with_it(
    client: httpx.AsyncClient, name: str
) -> None:
    answer = await client.get(f"/dashboard/assets/{VERSION}/{name}")
    assert answer.content == (FOLDER / name).read_bytes()
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize(
    "path", [f"{VERSION}/nope.js", "0/list.js", f"{VERSION}/..%2fpages.py", f"{VERSION}/%2e%2e"]
)
async def test_no_other_file_is_handed_out(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(f"/dashboard/assets/{path}")).status_code == 404


def test_every_module_is_used_and_every_import_is_there() -> None:
    used = set(ENTRIES)
    todo = list(ENTRIES)
    while todo:
        new = imports_of(todo.pop()) - used
        used |= new
        todo += new
    assert used == set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_short_and_never_takes_text_for_markup(name: str) -> None:
    text = MODULES[name]
    assert len(text.splitlines()) < 300
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text)
    assert not re.search(r"sessionStorage|indexedDB|document\.cookie", text)
    assert name in ("theme.js", "frame.js") or "localStorage" not in text


def test_every_event_has_its_words() -> None:
    types = {
        kind.type
        for kind in vars(orchestrator.events).values()
        if inspect.isclass(kind)
        and issubclass(kind, Payload)
        and kind not in (Payload, RunEnded, UserEvent)
    }
    assert {each for each in types if f"'{each}':" not in MODULES["words.js"]} == set()


async def test_a_list_that_has_not_changed_is_not_sent_again(client: httpx.AsyncClient) -> None:
    first = await client.get("/runs")
    again = await client.get("/runs", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    await client.post("/runs", json={"agent": "sleeper"})
    later = await client.get("/runs", headers={"If-None-Match": first.headers["etag"]})
    assert later.status_code == 200
