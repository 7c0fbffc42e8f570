"""``quiesce halt``: stop everything, and let nothing start until that is lifted."""

from __future__ import annotations

import click

from api.commands.server import Server, server_option
from api.terminal import chip, clean, open_console
from orchestrator import InvalidInput, StopMode, StopOutcome

_DONE = {StopOutcome.STOPPED, StopOutcome.FINISHED_FIRST}


@click.command()
@click.option("--mode", type=click.Choice([str(each) for each in StopMode]), default="graceful")
@click.option("--grace-s", type=click.FloatRange(min=0, max=86_400), help="For what is in flight.")
@click.option("--reason", default="", help="It goes onto every receipt.")
@click.option("--no-wait", is_flag=True, help="Return as soon as the halt is durable.")
@click.option("--lift", is_flag=True, help="Let runs start again.")
@server_option
@click.pass_context
def halt(
    ctx: click.Context,
    server: Server,
    *,
    mode: str,
    grace_s: float | None,
    reason: str,
    no_wait: bool,
    lift: bool,
) -> None:
    """Stop every run of a server, and let nothing start until the halt is lifted.

    The exit code is 0 if every run has stopped or had ended (with ``--no-wait``: or is stopping),
    1 if one was abandoned.
    """
    console = open_console()
    with server.client() as client:
        if lift:
            _refuse_others(ctx)
            client.lift()
            console.print("lifted: runs may start again")
            return
        answer = client.halt(mode=mode, grace_s=grace_s, reason=reason)
        count = answer["runs_stopped"]
        console.print(f"halted: {count} {'run is' if count == 1 else 'runs are'} being stopped")
        outcomes = []
        for each in answer["results"]:
            view = client.get(each["run_id"]) if no_wait else client.wait(each["run_id"])
            outcome = StopOutcome.STOPPING if view.record.stop is None else view.record.stop.outcome
            outcomes.append(outcome)
            console.print(chip(view.record.status), clean(view.record.agent), view.id)
    fine = _DONE | {StopOutcome.STOPPING} if no_wait else _DONE
    ctx.exit(0 if fine.issuperset(outcomes) else 1)


def _refuse_others(ctx: click.Context) -> None:
    """Refuse what only a halt has.

    Raises:
        InvalidInput: it was given with ``--lift``.
    """
    for name in ("mode", "grace_s", "reason", "no_wait"):
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            flag = f"--{name.replace('_', '-')}"
            raise InvalidInput([(flag, "is for a halt; --lift takes none of its options")])
