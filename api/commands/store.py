"""``quiesce store``: what is done to a store beside running it."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator import back_up_store, check_store, vacuum_store


@click.group()
def store() -> None:
    """Check, copy or shrink the store of a server. STORE is a file or a sqlite:/// URL."""


@store.command()
@click.argument("store_", metavar="STORE")
@click.pass_context
def check(ctx: click.Context, store_: str) -> None:
    """Look whether all that is stored agrees. A server may run meanwhile.

    The exit code is 1 if anything is wrong.
    """
    found = check_store(store_)
    for each in found.wrong:
        click.echo(f"wrong: {each}")
    for each in found.notes:
        click.echo(f"note: {each}")
    click.echo(f"{len(found.wrong)} faults" if found.wrong else "all is well")
    ctx.exit(1 if found.wrong else 0)


@store.command()
@click.argument("store_", metavar="STORE")
@click.argument("target", type=click.Path(path_type=Path))
def backup(store_: str, target: Path) -> None:
    """Copy a store as it is at this moment. A server may run meanwhile.

    The exit code is 2 if artifacts are not whole; the rest is copied then.
    """
    back_up_store(store_, target)
    click.echo(f"copied to {target}")


@store.command()
@click.argument("store_", metavar="STORE")
def vacuum(store_: str) -> None:
    """Give unused space back to the disk. No server may run meanwhile."""
    before, after = vacuum_store(store_)
    click.echo(f"{before} bytes before, {after} bytes after")
