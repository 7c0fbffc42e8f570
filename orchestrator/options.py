"""What the starter of a run may choose, as it is parsed from outside."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import pydantic

from orchestrator.errors import InvalidInput, check_text
from orchestrator.faults import check_list, faults_of
from orchestrator.model import RunOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What is looked for by its text: PostgreSQL's indexes take no row beyond 2700 bytes.
NAME_BYTES = 255
# Of one run.
MAX_TAGS = 100
# What is to happen within some time happens in ten years at the latest.
LONGEST_S = 10 * 365 * 86_400
# In small letters; also of hosts that no public name could have, such as ``my_host``.
HOST_NAME = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")

_DEFAULTS = RunOptions()


class _Options(pydantic.BaseModel):
    """``RunOptions`` with its ranges, as it is parsed from outside."""

    model_config = pydantic.ConfigDict(extra="forbid")

    deadline_s: float | None = pydantic.Field(None, strict=True, gt=0, le=LONGEST_S)
    idle_timeout_s: float | None = pydantic.Field(None, strict=True, gt=0, le=LONGEST_S)
    grace_s: float = pydantic.Field(
        _DEFAULTS.grace_s, strict=True, ge=0, le=86_400, allow_inf_nan=False
    )
    cleanup_s: float = pydantic.Field(
        _DEFAULTS.cleanup_s, strict=True, gt=0, le=3_600, allow_inf_nan=False
    )
    isolation: Literal["task", "process"] = "task"
    on_crash: Literal["fail", "restart"] = "fail"
    max_attempts: int = pydantic.Field(_DEFAULTS.max_attempts, strict=True, ge=1, le=1_000)
    on_disconnect: Literal["continue", "stop"] = "continue"
    debug: bool = pydantic.Field(False, strict=True)
    start_after_s: float = pydantic.Field(0, strict=True, ge=0, le=LONGEST_S)
    start_by_s: float | None = pydantic.Field(None, strict=True, gt=0, le=LONGEST_S)
    priority: int = pydantic.Field(0, strict=True, ge=-100, le=100)
    key: str | None = pydantic.Field(None, min_length=1, max_length=200)
    on_conflict: Literal["allow", "reject", "enqueue", "stop_previous"] = "allow"
    no_stop_after_percent: float | None = pydantic.Field(None, strict=True, gt=0, le=100)
    retention_s: float | None = pydantic.Field(None, strict=True, ge=0, le=100 * 365 * 86_400)
    tags: tuple[str, ...] = pydantic.Field((), max_length=MAX_TAGS)
    webhook: str | None = pydantic.Field(None, max_length=2_000)

    @pydantic.field_validator("webhook")
    @classmethod
    def _is_url(cls, text: str | None) -> str | None:
        if text is not None and not _is_web_url(text):
            raise ValueError("must be an http or https URL of a host, without a user in it")
        return text


def parse_options(given: Mapping[str, Any], defaults: RunOptions | None = None) -> RunOptions:
    """Check the options of a start and lay them over the defaults.

    Raises:
        InvalidInput: names each option that is unknown, out of range, or at odds with another,
            as ``options.<name>``.
    """
    if not isinstance(given, dict):
        raise InvalidInput([("options", "must be an object of named values")])
    if not given:
        return defaults or _DEFAULTS
    try:
        parsed = _Options.model_validate(given)
    except pydantic.ValidationError as error:
        raise InvalidInput(problems_of("options", error, _Options)) from None
    for tag in parsed.tags:
        check_name("options.tags", tag)
    check_text("options.key", parsed.key or "")
    options = replace(defaults or _DEFAULTS, **parsed.model_dump(exclude_unset=True))
    if options.start_by_s is not None and options.start_by_s <= options.start_after_s:
        why = f"must be more than start_after_s, which is {options.start_after_s:g}"
        raise InvalidInput([("options.start_by_s", why)])
    return options


def options_schema() -> dict[str, Any]:
    """Return the JSON Schema of what ``parse_options`` takes."""
    return _Options.model_json_schema()


def options_as_json(options: RunOptions) -> dict[str, Any]:
    """Return the options as the JSON object that ``parse_options`` takes."""
    return asdict(options) | {"tags": list(options.tags)}


def problems_of(
    prefix: str, error: pydantic.ValidationError, model: type[pydantic.BaseModel]
) -> list[tuple[str, str]]:
    """Return each fault that was found, as ``InvalidInput`` wants them."""
    return [
        (".".join([prefix, *map(str, at)]), why) for at, why in faults_of(error, model.model_fields)
    ]


def _is_web_url(text: str) -> bool:
    """Return whether it is an http or https URL of a host that could exist, and names no user.

    Raises:
        ValueError: it has the form of a URL, but not of a host or a port.
    """
    parts = urlsplit(text)
    host = parts.hostname or ""
    # What has a colon is an address of IPv6, as urlsplit has seen.
    could_exist = (":" in host or bool(HOST_NAME.fullmatch(host))) and parts.port != 0
    is_web = parts.scheme in ("http", "https") and parts.username is None
    return is_web and could_exist and text.isascii() and text.isprintable()


def check_name(field: str, value: object) -> str:
    """Return a text that is given from outside, and by which runs are found.

    Raises:
        InvalidInput: as for ``check_text``, or it is too long.
    """
    size = len(check_text(field, value).encode())
    if size > NAME_BYTES:
        why = f"has {size} bytes as UTF-8, but may have {NAME_BYTES} at most"
        raise InvalidInput([(field, why)])
    return str(value)


def check_tags(given: Sequence[str]) -> tuple[str, ...]:
    """Return tags that are given to a run, each of them once.

    Raises:
        InvalidInput: one is no text, or too long; or they are too many.
    """
    tags = tuple(dict.fromkeys(check_name("tags", tag) for tag in check_list("tags", given)))
    if len(tags) > MAX_TAGS:
        raise InvalidInput([("tags", f"are {len(tags)}, and may be {MAX_TAGS} at most")])
    return tags
