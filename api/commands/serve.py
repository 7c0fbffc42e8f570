"""``quiesce serve``: a server."""

from __future__ import annotations

import ipaddress
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import click
import trio

from api.commands.loading import agents_option, load_agents
from api.commands.values import Duration
from orchestrator import MAX_QUEUED

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class _Network(click.ParamType[Network]):
    name = "network"

    def convert(self, value: Any, param: Any, ctx: Any) -> Network:
        try:
            return ipaddress.ip_network(value)
        except ValueError:
            self.fail(f"{value!r} is no network, such as 127.0.0.0/8 or 10.1.2.3", param, ctx)


_NETWORK = _Network()


def announce(url: str) -> None:
    """Say that clients can connect; programs wait for this line."""
    click.echo(f"listening on {url}")


@click.command()
@agents_option
@click.option("--store", default="sqlite:///quiesce.db", show_default=True, metavar="URL")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="An address; without --tokens only a loopback one.",
)
@click.option("--port", default=8080, show_default=True, help="0 picks one that is free.")
@click.option(
    "--grace-s",
    type=click.FloatRange(min=0, max=86_400),
    default=10.0,
    show_default=True,
    help="At a shutdown, operations in flight may take so many seconds.",
)
@click.option(
    "--retention",
    default="30d",
    show_default=True,
    type=Duration(),
    metavar="TIME",
    help="How long runs are kept after their end: 90s, 30m, 12h, 30d, or for-ever.",
)
@click.option(
    "--tokens",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Who may do what. SIGHUP reads it again.",
)
@click.option(
    "--tls-cert",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The certificate, with its chain, as PEM; serves HTTPS. SIGHUP reads it again.",
)
@click.option(
    "--tls-key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The key of the certificate, as PEM.",
)
@click.option(
    "--public-host",
    "public_hosts",
    multiple=True,
    metavar="NAME",
    help="A name under which clients reach the server. May be given several times.",
)
@click.option(
    "--max-workers",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="So many runs may have a process of their own at a time; more wait.",
)
@click.option(
    "--webhooks",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Who is told when runs end.",
)
@click.option(
    "--webhooks-allow",
    "allowed",
    multiple=True,
    type=_NETWORK,
    metavar="NETWORK",
    help="Webhooks may go there although it is not public. May be given several times.",
)
@click.option(
    "--log-format",
    type=click.Choice(["auto", "text", "json"]),
    default="auto",
    show_default=True,
    help="`auto` is text on a terminal, and JSON elsewhere.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Of our own lines; libraries are heard from `warning` on.",
)
@click.option("--max-running", type=click.IntRange(min=1), help="So many runs at once; more wait.")
@click.option(
    "--max-queued",
    type=click.IntRange(min=0),
    default=MAX_QUEUED,
    show_default=True,
    help="So many may wait; more are refused.",
)
@click.option(
    "--dialect",
    "dialects",
    default="",
    metavar="NAMES",
    help="Interfaces of other systems to offer too, with commas between them.",
)
@click.pass_context
def serve(
    ctx: click.Context,
    *,
    sources: tuple[str, ...],
    store: str,
    host: str,
    port: int,
    grace_s: float,
    retention: float | None,
    tokens: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    public_hosts: tuple[str, ...],
    max_workers: int,
    webhooks: Path | None,
    allowed: tuple[Network, ...],
    log_format: Literal["auto", "text", "json"],
    log_level: str,
    max_running: int | None,
    max_queued: int,
    dialects: str,
) -> None:
    """Serve runs over HTTP until SIGTERM, Ctrl-C or the end of the terminal.

    The first signal refuses new runs and stops the others gracefully, a second one now. Runs that
    wait to start stay in the store, for the next server.
    """
    if public_hosts and tokens is None:
        raise click.UsageError("--public-host is for a server with --tokens")
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    # Here, so that no other command waits until a web server is imported.
    from api.auth import FileAccess
    from api.logs import configure
    from api.service import serve_forever, tune_collector
    from api.tls import Certificate
    from api.webhooks import Networks, Outbox, read_rules

    configure(log_format, log_level)
    agents = load_agents(sources)
    access = None
    if tokens is not None:
        names = {each.name for each in agents}
        access = FileAccess(tokens, names, public_hosts=public_hosts)
    certificate = Certificate(tls_cert, tls_key) if tls_cert and tls_key else None
    rules = None if webhooks is None else read_rules(webhooks)
    main = partial(
        serve_forever,
        store=store,
        agents=agents,
        host=host,
        port=port,
        grace_s=grace_s,
        max_workers=max_workers,
        announce=announce,
        access=access,
        max_running=max_running,
        max_queued=max_queued,
        certificate=certificate,
        dialects=[name.strip() for name in dialects.split(",") if name.strip()],
        outbox=Outbox(rules, Networks(allowed)),
        retention_s=retention,
    )
    tune_collector()
    ctx.exit(trio.run(main))
