"""What a playbook is, once it has been read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.model import Json
    from orchestrator.shapes import Shape


@dataclass(frozen=True, slots=True)
class Input:
    """A value that a playbook is started with; required if it has no default."""

    shape: Shape
    required: bool
    default: Json


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        parameters: without the steps inside it; templates are compiled.
        inner: the lists of steps inside it, by parameter; those of ``branches`` by number.
    """

    id: str
    type: str
    line: int
    name: str = ""
    on_error: str = "fail"
    parameters: dict[str, Any] = field(default_factory=dict)
    inner: dict[str, tuple[Step, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Playbook:
    """A playbook that can be played."""

    name: str
    inputs: dict[str, Input]
    session: dict[str, Any]
    steps: tuple[Step, ...]
    outputs: dict[str, Any]

    def take(self, given: Mapping[str, Json]) -> dict[str, Json]:
        """Return the inputs of a play: those that are given, and defaults.

        Raises:
            InvalidInput: one is missing, unknown, or does not fit.
        """
        known = ", ".join(self.inputs) or "none"
        faults = [(n, f"is not known; known are: {known}") for n in given if n not in self.inputs]
        taken: dict[str, Json] = {}
        for name, wanted in self.inputs.items():
            if name in given:
                try:
                    taken[name] = wanted.shape.read(given[name], name)
                except InvalidInput as error:
                    faults += error.problems
            elif wanted.required:
                faults.append((name, "is missing"))
            else:
                taken[name] = wanted.default
        if faults:
            raise InvalidInput(faults)
        return taken
