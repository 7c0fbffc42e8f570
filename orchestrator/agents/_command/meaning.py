"""Lines that are JSON objects with a meaning: progress, log, partial, artifact."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic
from pydantic_core import from_json

from orchestrator.agent import as_json
from orchestrator.errors import InvalidInput

if TYPE_CHECKING:
    from orchestrator.context import Context

_KEYS = ("progress", "log", "partial", "artifact")
_QUOTED = tuple(f'"{key}"' for key in _KEYS)


class Meaning(pydantic.BaseModel):
    """What a line can say. Other keys are for somebody else and do no harm."""

    model_config = pydantic.ConfigDict(strict=True)

    progress: Annotated[float, pydantic.Field(ge=0, le=100)] = 0
    message: str = ""
    log: str = ""
    level: Literal["debug", "info", "warning", "error"] = "info"
    partial: Any = None
    artifact: str = ""
    data: str | None = None
    base64: str | None = None
    media_type: str | None = None
    append: bool = False

    def says(self, key: str) -> bool:
        """Return whether the line has that key."""
        return key in self.model_fields_set

    def content(self) -> tuple[bytes, str]:
        """Return the artifact's bytes and media type.

        Raises:
            ValueError: it has no content, or two, or what is no base64.
        """
        if (self.data is None) == (self.base64 is None):
            raise ValueError("an artifact has either `data` or `base64`")
        if self.data is not None:
            return self.data.encode(), self.media_type or "text/plain; charset=utf-8"
        assert self.base64 is not None
        data = base64.b64decode(self.base64, validate=True)
        return data, self.media_type or "application/octet-stream"


def may_mean(text: str) -> bool:
    """Return whether some line of the text may have a meaning; quick, for floods."""
    return any(key in text for key in _QUOTED)


def meaning_of(line: str) -> Meaning | None:
    """Return what a line means; None if it is just a line, be it nearly one with a meaning."""
    if not line.startswith("{") or not may_mean(line):
        return None
    try:
        meaning = Meaning.model_validate(from_json(line, allow_inf_nan=False))
        if not any(map(meaning.says, _KEYS)):
            return None
        if meaning.says("artifact"):
            meaning.content()
        as_json(meaning.partial, "partial")
    except (ValueError, InvalidInput):  # binascii.Error is a ValueError
        return None
    return meaning


async def act_on(ctx: Context, meaning: Meaning) -> bool:
    """Do what a line means, all of it or nothing; logging is for the caller.

    Returns:
        False if it is just a line after all: its artifact has a name that cannot be.
    """
    if meaning.says("artifact"):
        data, media_type = meaning.content()
        try:
            await ctx.artifact(meaning.artifact, data, append=meaning.append, media_type=media_type)
        except InvalidInput:
            return False
    if meaning.says("progress"):
        await ctx.progress(meaning.progress, meaning.message)
    if meaning.says("partial"):
        await ctx.partial(meaning.partial)
    return True
