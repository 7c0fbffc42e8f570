"""What calls of models cost."""

from __future__ import annotations

import json
import os
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pydantic

from orchestrator.errors import InvalidInput
from orchestrator.faults import faults_of
from orchestrator.model import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.ports import RunPort

PRICES = "QUIESCE_LLM_PRICES"
# No call has so many tokens, or costs so much. Whatever reads JSON has room for less than this.
ABSURD = 2**53

_Dollars = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False, strict=True)]


class Price(pydantic.BaseModel):
    """US dollars for a million tokens."""

    model_config = pydantic.ConfigDict(extra="forbid")

    input: _Dollars
    output: _Dollars

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """Return what so many tokens cost."""
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


_table = pydantic.TypeAdapter(dict[str, Price])


def price_of(model: str) -> Price | None:
    """Return what ``QUIESCE_LLM_PRICES`` says of a model. A file is read once.

    Raises:
        InvalidInput: the variable, or the file that it names, cannot be read.
    """
    return _prices(os.environ.get(PRICES, "").strip()).get(model)


@lru_cache(maxsize=8)
def _prices(setting: str) -> Mapping[str, Price]:
    if not setting:
        return {}
    try:
        if setting.startswith("{"):
            found = json.loads(setting)
        else:
            text = Path(setting).read_text()
            found = json.loads(text) if setting.endswith(".json") else tomllib.loads(text)
        return _table.validate_python(found)
    except pydantic.ValidationError as error:
        (at, why), *_ = faults_of(error)
        why = f"{'.'.join(map(str, at))}: {why}"
    except (OSError, ValueError) as error:
        why = str(error)
    wanted = '{model: {"input": …, "output": …}} in dollars per million tokens, or a file of that'
    raise InvalidInput([(PRICES, f"must be {wanted}, but {why}")])


class Meter:
    """Counts one call on its run, each part as soon as it is known.

    Attributes:
        total: what was counted so far.
    """

    def __init__(self, run: RunPort, price: Price | None) -> None:
        self._run = run
        self._price = price
        self._seen = Usage()
        self._requests = 0
        self.total = Usage()

    def count_request(self) -> None:
        """A request reached the model, or may have."""
        self._requests += 1
        self._settle()

    def see(self, reported: Mapping[str, Any] | None) -> None:
        """The endpoint reported the call's usage so far."""
        if not isinstance(reported, dict):
            return
        tokens_in = int(_number(reported, "prompt_tokens") or 0)
        tokens_out = int(_number(reported, "completion_tokens") or 0)
        cost = _number(reported, "cost")
        if cost is None and self._price is not None:
            cost = self._price.of(tokens_in, tokens_out)
        self._seen = Usage(input_tokens=tokens_in, output_tokens=tokens_out, cost=cost or 0.0)
        self._settle()

    def _settle(self) -> None:
        before, seen = self.total, self._seen
        self.total = Usage(
            requests=self._requests,
            input_tokens=seen.input_tokens,
            output_tokens=seen.output_tokens,
            cost=seen.cost,
        )
        if self.total != before:
            self._run.spend(
                Usage(
                    requests=self.total.requests - before.requests,
                    input_tokens=self.total.input_tokens - before.input_tokens,
                    output_tokens=self.total.output_tokens - before.output_tokens,
                    cost=self.total.cost - before.cost,
                )
            )


def _number(reported: Mapping[str, Any], name: str) -> float | None:
    value = reported.get(name)
    usable = isinstance(value, int | float) and 0 <= value < ABSURD
    return value if usable else None
