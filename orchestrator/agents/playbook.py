"""The built-in playbook: steps written down in YAML, each durable, each stoppable in its middle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo

from orchestrator.agent import agent
from orchestrator.agents._playbook.playing import Player
from orchestrator.agents._playbook.reading import known_playbook, read_playbook
from orchestrator.errors import InvalidInput

if TYPE_CHECKING:
    from orchestrator.context import Context

# Reading takes a second or so for that much, and nobody writes more by hand.
CHARACTERS = 100_000


def _check_playbook(text: str, info: ValidationInfo) -> str:
    read_playbook(text, info.context)
    return text


def _check_inputs(given: dict[str, Any] | None, info: ValidationInfo) -> dict[str, Any] | None:
    text = info.data.get("playbook")  # not there if it is wrong itself
    if text is not None:
        try:
            known_playbook(text).take(given or {})
        except InvalidInput as error:
            raise ValueError(str(error)) from None
    return given


Source = Annotated[str, Field(max_length=CHARACTERS), AfterValidator(_check_playbook)]
Inputs = Annotated[
    dict[str, Any] | None, Field(validate_default=True), AfterValidator(_check_inputs)
]


@agent(name="playbook")
async def playbook(ctx: Context, playbook: Source, inputs: Inputs = None) -> dict[str, Any]:
    """Do the steps of a playbook, one after the other.

    It is checked whole before it starts. Each step is done once: what a step put out is kept, and a
    run that starts again, or is rerun from a step, does not repeat it. A stop ends a step in its
    middle, whatever the step may catch. Result and partial result: `{"name", "outputs", "steps"}`,
    where `steps` has the output of each step by its id.

    - `playbook`: YAML; see the documentation for the types of its steps.
    - `inputs`: values for the inputs that the playbook declares.
    """
    known = known_playbook(playbook)
    return await Player(ctx, known, known.take(inputs or {})).play()
