"""What an agent tells of itself: progress, log, events, partial results, files, pictures."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from orchestrator.agent import as_json, named_values
from orchestrator.errors import InvalidInput, check_count, check_text
from orchestrator.events import RunArtifact, RunLog, RunProgress, UserEvent, is_agents_own
from orchestrator.faults import as_said, is_number
from orchestrator.llm.spending import ABSURD, price_of
from orchestrator.llm.stream import Deltas
from orchestrator.model import Progress, Usage
from orchestrator.partials import PartialResult
from orchestrator.store.writes import SaveArtifact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.model import Json, RunId
    from orchestrator.ports import RunPort

LOG_LEVELS = ("debug", "info", "warning", "error")
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+( *; *[\w.+-]+=[\w.+-]+)*", re.ASCII)
# The artifact that is the latest picture of the run.
VIEW = "view"
_PICTURES = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}
_ARTIFACT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,199}")


class Telling:
    """The part of a context that tells. Every async method is a checkpoint."""

    __slots__ = ("_deltas", "_partial", "_run")

    def __init__(self, run: RunPort) -> None:
        self._run = run
        self._partial: PartialResult | None = None
        self._deltas: Deltas | None = None

    @property
    def run_id(self) -> RunId:
        """The id of this run."""
        return self._run.id

    async def progress(self, percent: float, message: str = "") -> None:
        """Say how far the run is: 0 to 100, and a sentence.

        Raises:
            InvalidInput: ``percent`` is not within 0 and 100.
        """
        if not is_number(percent) or not 0 <= percent <= 100:
            raise InvalidInput([("percent", f"{as_said(percent)} is not within 0 and 100")])
        check_text("message", message)
        await self._turn()
        percent = round(float(percent), 3)
        self._run.save(
            payload=RunProgress(percent, message),
            progress=Progress(percent=percent, message=message),
        )

    async def log(self, message: str, level: str = "info") -> None:
        """Append a line to the run's log; ``level`` is debug, info, warning or error."""
        if level not in LOG_LEVELS:
            raise InvalidInput([("level", f"{level!r} is not one of {', '.join(LOG_LEVELS)}")])
        check_text("message", message)
        await self._turn()
        self._run.tell(RunLog(level, message))

    async def emit(self, type: str, data: Mapping[str, Any] | None = None) -> None:
        """Append an event of the agent's own.

        Args:
            type: dotted lower case, such as ``order.paid``; the families ``run.``,
                ``operation.``, ``step.`` and ``llm.`` are taken.
            data: a JSON object.
        """
        if not is_agents_own(check_text("type", type)):
            raise InvalidInput(
                [("type", f"{type!r} is not dotted lower case like `order.paid`, or is taken")]
            )
        value = as_json({} if data is None else named_values(data, "data"), "data")
        await self._turn()
        self._run.tell(UserEvent(type, value))

    async def partial(self, value: Json) -> None:
        """Set the run's latest partial result, which a stop keeps.

        Cheap to call often: the value is encoded now and then, and when the run ends; so pass
        the object that grows, and do not take it apart afterwards.
        """
        await self._turn()
        if self._partial is None:
            self._partial = PartialResult(self._run)
        self._partial.set(value)

    async def artifact(
        self,
        name: str,
        data: bytes,
        *,
        append: bool = False,
        media_type: str = "application/octet-stream",
    ) -> None:
        """Keep a file with the run.

        Args:
            append: add to the end of what is there, at a cost that does not grow with it.

        Raises:
            InvalidInput: the name is no plain file name, or the data are no bytes.
        """
        check_file(name, media_type)
        kept = _as_bytes("data", data)
        await self._turn()
        self._run.tell(
            RunArtifact(name, len(kept)),
            SaveArtifact(self.run_id, name, media_type, kept, bool(append)),
        )

    async def view(self, image: bytes) -> None:
        """Show a picture of what the run is doing, in place of the one before.

        It is kept as the artifact ``view``.

        Args:
            image: a PNG, JPEG, GIF or WebP file.

        Raises:
            InvalidInput: it is none.
        """
        image = _as_bytes("image", image)
        kinds = [kind for kind, magic in _PICTURES.items() if magic.match(image)]
        if not kinds:
            raise InvalidInput([("image", "is no PNG, JPEG, GIF or WebP file")])
        await self.artifact(VIEW, image, media_type=kinds[0])

    async def delta(self, text: str) -> None:
        """Tell a piece of what a model writes that was asked by other means than ``ctx.llm``.

        Told as events ``llm.delta`` of the operation at hand, a few pieces at a time.
        """
        check_text("text", text)
        if self._deltas is None or not self._deltas.is_here():
            self._tell_deltas()
            self._deltas = Deltas(self._run)
        self._deltas.add(text)
        await self._turn()

    def spend(
        self,
        *,
        requests: int = 0,
        input_tokens: int = 0,
        output_tokens: int = 0,
        model: str = "",
        cost: float | None = None,
    ) -> None:
        """Count what was spent on a model that was asked by other means than ``ctx.llm``.

        Not a checkpoint.

        Args:
            requests, input_tokens, output_tokens: what is added to the run's ``usage``.
            model: whose price to take from ``QUIESCE_LLM_PRICES``, unless there is a cost.
            cost: in US dollars.

        Raises:
            InvalidInput: a number is negative, absurd, or none, or the prices cannot be read.
        """
        counts = {
            "requests": requests,
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
        }
        for name, count in counts.items():
            check_count(name, count, least=0)
        if cost is None:
            price = price_of(check_text("model", model))
            cost = 0.0 if price is None else price.of(input_tokens, output_tokens)
        if not is_number(cost) or cost < 0:
            raise InvalidInput([("cost", f"{as_said(cost)} is no sum of dollars")])
        for name, much in {**counts, "cost": cost}.items():
            # It could not be read from the store again, or not be added.
            if much >= ABSURD:
                raise InvalidInput([(name, "is more than can be spent")])
        self._run.spend(Usage(**counts, cost=cost))

    def _tell_deltas(self) -> None:
        if self._deltas is not None:
            self._deltas.tell()

    def flush(self) -> None:
        """Tell pieces of a model's answer that wait for more, and write a partial result that
        waits to be encoded. Not a checkpoint."""
        self._tell_deltas()
        if self._partial is not None:
            self._partial.write()

    async def _turn(self) -> None:
        await self._run.journal.room()
        if self._run.gate.held:
            await self._run.gate.park()


def _as_bytes(field: str, data: bytes) -> bytes:
    if not isinstance(data, bytes | bytearray | memoryview):
        why = f"must be bytes, not {type(data).__name__}; encode a text"
        raise InvalidInput([(field, why)])
    return bytes(data)


def check_file(name: str, media_type: str, within: str = "") -> None:
    """Check what a file is called and what it is.

    Args:
        within: what stands before ``name`` and ``media_type`` where they are called wrong.

    Raises:
        InvalidInput: it cannot be the name, or the media type, of an artifact.
    """
    if not _ARTIFACT_NAME.fullmatch(check_text(f"{within}name", name)):
        why = f"{name!r} is not a plain file name of at most 200 characters"
        raise InvalidInput([(f"{within}name", why)])
    if not _MEDIA_TYPE.fullmatch(check_text(f"{within}media_type", media_type)):
        raise InvalidInput([(f"{within}media_type", f"{media_type!r} is not like `text/plain`")])
