"""Every block of the README and the documentation does what it shows."""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest

from orchestrator.lifecycle import TRANSITIONS, Move
from orchestrator.model import RunStatus
from tests.docs.pages import (
    PAGES,
    ROOT,
    all_blocks,
    anchors_of,
    blocks_of,
    code_in,
    links_of,
    name_of,
)
from tests.docs.reader import EXEMPT, SERVES, Reader, fresh_modules

if TYPE_CHECKING:
    from pathlib import Path

    from tests.docs.pages import Block

LANGUAGES = {"python", "yaml", "js", "sh", "console", "text", "json", "mermaid"}


def _is_slow(page: Path) -> bool:
    shown = [block.text for block in blocks_of(page) if block.language in ("sh", "console")]
    words = (*SERVES, "$ quiesce", "pytest", "pip install")
    return any(word in text for text in shown for word in words)


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=[pytest.mark.slow] * _is_slow(p), id=name_of(p)) for p in PAGES],
)
def test_a_reader_sees_what_the_page_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader(tmp_path, monkeypatch)
    try:
        with fresh_modules(tmp_path):
            reader.read(page)
    finally:
        reader.close()


def test_every_block_is_in_a_language_that_is_checked() -> None:
    assert [b.where for page in PAGES for b in blocks_of(page) if b.language not in LANGUAGES] == []


def test_no_exemption_is_left_over() -> None:
    lines = [line for block in all_blocks("sh", "console") for line in block.text.splitlines()]
    unused = [each for each in EXEMPT if not any(line.startswith(each) for line in lines)]
    assert unused == []


@pytest.mark.parametrize("block", all_blocks("json"), ids=lambda block: block.where)
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", all_blocks("mermaid"), ids=lambda block: block.where)
def test_the_diagram_is_the_table(block: Block) -> None:
    drawn = re.findall(r"^ +(\S+) --> (\w+): (.+)$", block.text, re.MULTILINE)
    table = [(a, b, move) for a, moves in TRANSITIONS.items() for move, b in moves.items()]
    assert sorted((RunStatus(a), RunStatus(b), Move(move)) for a, b, move in drawn) == sorted(table)
    ends = re.findall(r"^ +(\w+) --> \[\*\]$", block.text, re.MULTILINE)
    assert sorted(ends) == sorted(status for status in RunStatus if status.is_terminal)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in links_of(page):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        known = anchors_of(target) if target.suffix == ".md" and target.is_file() else set()
        if not target.is_file() or (parts.fragment and parts.fragment not in known):
            broken.append(link)
    assert broken == []


def test_every_page_is_reached_from_the_front() -> None:
    reached = {ROOT / "README.md"}
    todo = list(reached)
    while todo:
        page = todo.pop()
        linked = {(page.parent / urlsplit(link).path).resolve() for link in links_of(page)}
        new = {p for p in linked if p.suffix == ".md" and p.is_file()} - reached
        reached |= new
        todo += new
    assert set(PAGES) - reached == set()


def test_every_test_that_a_page_names_exists() -> None:
    defined = {
        node.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    named = {code for page in PAGES for code in code_in(page) if re.fullmatch(r"test_\w+", code)}
    assert named
    assert named - defined == set()
