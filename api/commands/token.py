"""``quiesce token``: tokens for the file of a server."""

from __future__ import annotations

from pathlib import Path

import click

from api.auth.identity import Role, is_principal
from api.auth.tokens import hash_of, new_token

_ROLES = click.Choice([str(role) for role in Role])


@click.group()
def token() -> None:
    """Make tokens for the file that `quiesce serve --tokens` reads."""


@token.command()
@click.option("--principal", required=True, metavar="NAME", help="Whose token it is.")
@click.option("--role", required=True, type=_ROLES, help="What they may do.")
@click.option(
    "--add",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Add it to this file, and print the token alone.",
)
def new(principal: str, role: Role, file: Path | None) -> None:
    """Make a token, and show it once: the file has its hash only."""
    made = new_token()
    lines = entry(principal, Role(role), hash_of(made))
    if file is None:
        click.echo(f"The token, which is not shown again:\n\n{made}\n\nFor the tokens file:\n")
        click.echo(lines, nl=False)
        return
    try:
        add(file, lines)
    except OSError as error:
        raise click.UsageError(f"cannot write {file}: {error.strerror}") from None
    click.echo(made)


def entry(principal: str, role: Role, digest: str) -> str:
    """Return the lines of a token.

    Raises:
        UsageError: nobody can be called that.
    """
    if not is_principal(principal):
        raise click.UsageError("--principal must be 1 to 200 characters that can be printed")
    quoted = principal.replace("\\", "\\\\").replace('"', '\\"')
    return f'[[token]]\nprincipal = "{quoted}"\nrole = "{role}"\nhash = "{digest}"\n'


def add(file: Path, lines: str) -> None:
    """Add the lines to the end of a file, which is made if need be; others cannot read it then."""
    file.touch(mode=0o600)
    before = file.read_bytes()
    gap = "" if not before else "\n" if before.endswith(b"\n") else "\n\n"
    with file.open("a") as out:
        out.write(gap + lines)
