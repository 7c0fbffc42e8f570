"""Who wants to be told of which ends; and the file that says so."""

from __future__ import annotations

import base64
import binascii
import tomllib
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

import pydantic
from pydantic import AfterValidator

from orchestrator import OrchestratorError, RunStatus, faults_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator import RunRecord

MAILTO = "mailto:"
PREFIX = "whsec_"
# As Standard Webhooks has it.
SECRET_BYTES = range(24, 65)


class BadWebhooksFile(OrchestratorError):
    """A file of webhook rules cannot be used."""


def _secret(text: str) -> str:
    try:
        size = len(base64.b64decode(text.removeprefix(PREFIX), validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if not text.startswith(PREFIX) or size not in SECRET_BYTES:
        raise ValueError(
            "must be whsec_ and 24 to 64 bytes in base64; `quiesce webhooks secret` makes one"
        )
    return text


def _status(text: str) -> str:
    ends = [str(status) for status in RunStatus if status.is_terminal]
    if text not in ends:
        raise ValueError(f"is not one of {', '.join(ends)}")
    return text


def _target(text: str) -> str:
    if text.startswith(MAILTO):
        if not all("@" in each for each in recipients(text)):
            raise ValueError("must be mailto: and addresses, with commas between them")
        return text
    parts = urlsplit(text)
    is_web = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    if not is_web or parts.username is not None:
        raise ValueError("must be an http, https or mailto URL, without a user in it")
    return text


def recipients(target: str) -> list[str]:
    """Return the addresses of a ``mailto:``."""
    return [each.strip() for each in target.removeprefix(MAILTO).split(",")]


Secret = Annotated[str, AfterValidator(_secret)]
Target = Annotated[str, AfterValidator(_target)]


class _Table(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)


class Rule(_Table):
    """Somebody who wants to be told.

    Attributes:
        statuses, agents: the ends and agents that they want to hear of; all if None.
    """

    url: Target
    secret: Secret | None = None
    statuses: list[Annotated[str, AfterValidator(_status)]] | None = None
    agents: list[str] | None = None

    def wants(self, record: RunRecord) -> bool:
        """Whether they want to be told of the end of that run."""
        return (self.statuses is None or record.status in self.statuses) and (
            self.agents is None or record.agent in self.agents
        )


class Mail(_Table):
    """How mail is sent."""

    host: str
    sender: str
    port: int = pydantic.Field(587, ge=1, le=65535)
    tls: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""
    password: str = ""


class Rules(_Table):
    """Everybody who wants to be told.

    Attributes:
        secret: signs what goes to the URLs that starters name, and to rules without their own.
    """

    secret: Secret | None = None
    rule: list[Rule] = []
    mail: Mail | None = None

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Rules:
        secrets: dict[str, str | None] = {}
        for number, rule in enumerate(self.rule, 1):
            if rule.url.startswith(MAILTO):
                if self.mail is None:
                    raise ValueError(f"rule {number} is for mail, but there is no table [mail]")
                continue
            secret = rule.secret or self.secret
            if secret is None:
                raise ValueError(f"rule {number} has no secret, and neither has the file")
            if secrets.setdefault(rule.url, secret) != secret:
                raise ValueError(f"rule {number} has another secret than an earlier one of its URL")
        return self

    def targets_of(self, record: RunRecord) -> Iterator[str]:
        """Yield where the end of a run is told, each once."""
        wanted = [record.options.webhook] if record.options.webhook is not None else []
        wanted += [rule.url for rule in self.rule if rule.wants(record)]
        yield from dict.fromkeys(wanted)

    def secret_of(self, target: str) -> str | None:
        """Return what signs the messages to a target; None if nothing does."""
        own = [rule.secret for rule in self.rule if rule.url == target and rule.secret is not None]
        return own[0] if own else self.secret


def read_rules(path: Path) -> Rules:
    """Read a file of rules.

    Raises:
        BadWebhooksFile: names what is wrong.
    """
    try:
        given: dict[str, Any] = tomllib.loads(path.read_text())
        return Rules.model_validate(given)
    except OSError as error:
        raise BadWebhooksFile(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadWebhooksFile(f"{path} is not TOML: {error}") from None
    except pydantic.ValidationError as error:
        raise BadWebhooksFile(f"{path}: {'; '.join(_problems(error))}") from None


def _problems(error: pydantic.ValidationError) -> Iterator[str]:
    for at, why in faults_of(error):
        place = ".".join(str(p + 1) if isinstance(p, int) else p for p in at)
        yield f"{place}: {why}" if place else why
