"""The commands that ask something of a live run, other than to stop."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from api.commands.server import Server, server_option
from api.commands.values import json_or_text, read_answer
from api.terminal import chip, clean, clock_of, open_console, question_block
from orchestrator import InvalidInput

if TYPE_CHECKING:
    from api.client import RunView
    from orchestrator import Question

# So that a negative number is no option.
_NUMBERS = {"ignore_unknown_options": True}


@click.command()
@click.argument("run_id", metavar="ID")
@click.option("--reason", default="", help="It is told with the pause.")
@server_option
def pause(server: Server, run_id: str, *, reason: str) -> None:
    """Let nothing new start in a run and below it; what is in flight finishes."""
    with server.client() as client:
        _say(client.pause(run_id, reason=reason))


@click.command()
@click.argument("run_id", metavar="ID")
@server_option
def resume(server: Server, run_id: str) -> None:
    """Let a paused run, and everything below it, go on."""
    with server.client() as client:
        _say(client.resume(run_id))


@click.command()
@click.argument("run_id", metavar="ID")
@server_option
def step(server: Server, run_id: str) -> None:
    """Let a paused run make one operation, and pause again."""
    with server.client() as client:
        _say(client.step(run_id))


@click.command()
@click.argument("run_id", metavar="ID")
@click.option("--from-step", metavar="NAME", help="Reuse the steps before it; `last` for all.")
@server_option
def rerun(server: Server, run_id: str, *, from_step: str | None) -> None:
    """Start a new run with the input of one that has ended."""
    with server.client() as client:
        _say(client.rerun(run_id, from_step=from_step))


@click.command(context_settings=_NUMBERS)
@click.argument("run_id", metavar="ID")
@click.argument("seconds", metavar="SECONDS|none")
@server_option
def deadline(server: Server, run_id: str, seconds: str) -> None:
    """Let a run end so many seconds from now at the latest, or take its deadline away."""
    deadline_s = None if seconds == "none" else json_or_text(seconds)
    with server.client() as client:
        view = client.move_deadline(run_id, deadline_s)
    at = view.record.deadline_at
    _say(view, "has no deadline" if at is None else f"has until {clock_of(at)}")


@click.command(context_settings=_NUMBERS)
@click.argument("run_id", metavar="ID")
@click.argument("words", nargs=-1, metavar="[[QUESTION_ID] ANSWER]")
@server_option
def answer(server: Server, run_id: str, words: tuple[str, ...]) -> None:
    """Answer a question that a run, or one of its sub-agents, asks.

    ANSWER is JSON if it parses as JSON, else text. Without one you are asked for it, at a
    terminal. Without QUESTION_ID it answers the only question that waits.
    """
    if len(words) > 2:
        raise InvalidInput([("answer", "put quotes around an answer of several words")])
    question_id = words[0] if len(words) == 2 else None
    with server.client() as client:
        asker, question = find_question(client.tree(run_id), question_id)
        text = words[-1] if words else _prompt(question)
        given = read_answer(text, question.schema if question is not None else None)
        _say(client.answer(asker, question_id or _id_of(question), given), "has its answer")


def find_question(tree: list[RunView], question_id: str | None) -> tuple[str, Question | None]:
    """Return the run that asks, and what it asks as far as that is shown.

    Raises:
        InvalidInput: nobody asks anything, or several do.
    """
    waiting = [(view.id, view.record.waiting_for) for view in tree]
    asked = [
        (run_id, question)
        for run_id, question in waiting
        if question is not None and question_id in (None, question.id)
    ]
    if len(asked) == 1:
        return asked[0]
    if asked:
        listed = "; ".join(f"{run_id} asks {question.question!r}" for run_id, question in asked)
        raise InvalidInput([("question", f"name the run whose question it is: {listed}")])
    if question_id is None:
        raise InvalidInput([("question", f"run {tree[0].id} waits for no answer")])
    # Only its oldest question is shown with a run; the server knows of the others.
    return tree[0].id, None


def _id_of(question: Question | None) -> str:
    assert question is not None, "only a question that was named need not be shown"
    return question.id


def _prompt(question: Question | None) -> str:
    assert question is not None
    if not sys.stdin.isatty():
        raise InvalidInput([("answer", "is missing, and there is no terminal to ask you at")])
    open_console().print(question_block(question))
    text: str = click.prompt("answer")
    return text


def _say(view: RunView, more: str = "") -> None:
    record = view.record
    words = [clean(record.agent), record.id, *([more] if more else [])]
    open_console().print(chip(record.status), *words)
