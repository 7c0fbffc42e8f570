"""Which server a command asks, and as whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from api.client import DEFAULT_URL, Client

if TYPE_CHECKING:
    from collections.abc import Callable

_Function = TypeVar("_Function", bound="Callable[..., Any]")

_META = "quiesce.token"


class Server(NamedTuple):
    """A server, and the token with which to ask it."""

    url: str
    token: str | None

    def client(self) -> Client:
        """Return a client of it."""
        return Client(self.url, token=self.token)


def _keep_token(ctx: click.Context, _: click.Parameter, token: str | None) -> None:
    ctx.meta[_META] = token


def _with_token(ctx: click.Context, _: click.Parameter, url: str | None) -> Server | None:
    return None if url is None else Server(url, ctx.meta[_META])


_token_option = click.option(
    "--token",
    envvar="QUIESCE_TOKEN",
    show_envvar=True,
    metavar="TOKEN",
    help="Says who you are.",
    is_eager=True,  # before the server, which is given it
    expose_value=False,
    callback=_keep_token,
)


def server_option(function: _Function) -> _Function:
    """Give a command the options ``--server`` and ``--token``, as one argument ``server``."""
    option = click.option(
        "--server",
        default=DEFAULT_URL,
        envvar="QUIESCE_SERVER",
        show_envvar=True,
        show_default=True,
        metavar="URL",
        help="The server to ask.",
        callback=_with_token,
    )
    return option(_token_option(function))


def other_server_option(function: _Function) -> _Function:
    """Likewise for a command that asks a server only if it is told to; ``server`` may be None."""
    option = click.option(
        "--server",
        metavar="URL",
        help="Run it on a server instead of in this process.",
        callback=_with_token,
    )
    return option(_token_option(function))
