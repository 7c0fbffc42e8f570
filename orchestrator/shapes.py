"""The shape that a JSON value from outside must have: a type, or a JSON Schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydantic

from orchestrator.agent import as_json
from orchestrator.errors import InvalidInput
from orchestrator.faults import faults_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.model import Json


class Shape:
    """A shape, and what reads values of it.

    Attributes:
        schema: JSON Schema; ``{}`` for any JSON.
    """

    __slots__ = ("_read", "schema")

    def __init__(self, wanted: Any = None) -> None:
        """Take a type (whatever pydantic can read), a JSON Schema as a dict, or None for any.

        Raises:
            InvalidInput: it is none of these.
        """
        if wanted is None:
            self.schema: dict[str, Any] = {}
            self._read: Any = None
        elif isinstance(wanted, dict):
            self.schema = as_json(wanted, "schema")
            self._read = _reader_by(self.schema)
        else:
            try:
                adapter = pydantic.TypeAdapter(wanted)
                self.schema = adapter.json_schema()
            except pydantic.errors.PydanticUserError as error:
                why = f"is neither a type nor a JSON Schema: {error.message.splitlines()[0]}"
                raise InvalidInput([("schema", why)]) from None
            self._read = adapter.validate_python

    def read(self, value: Json, what: str) -> Any:
        """Return the value as the type, or as it is for a JSON Schema.

        Raises:
            InvalidInput: it does not fit; names ``what`` and the place in it.
        """
        if self._read is None:
            return value
        try:
            return self._read(value)
        except pydantic.ValidationError as error:
            faults = faults_of(error)
        except _Unfit as error:
            faults = [(error.at, error.why)]
        raise InvalidInput([(".".join(map(str, (what, *at))), why) for at, why in faults])


class _Unfit(Exception):
    def __init__(self, at: tuple[int | str, ...], why: str) -> None:
        self.at = at
        self.why = why


def _reader_by(schema: dict[str, Any]) -> Callable[[Json], Json]:
    # Here, since few programs need it, and all would wait until it is imported.
    import jsonschema
    from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]
    from referencing.exceptions import Unresolvable

    kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise InvalidInput([("schema", f"is no JSON Schema: {error.message}")]) from None
    # With a registry of its own it fetches nothing: a reference to elsewhere would be a request
    # from here to wherever the schema says, while everything else waits for the answer.
    validator = kind(schema, registry=REGISTRY)

    def read(value: Json) -> Json:
        try:
            error = jsonschema.exceptions.best_match(validator.iter_errors(value))
        except Unresolvable as missing:
            ref = missing.ref or "an anchor"
            why = f"cannot be checked: the schema refers to {ref}, which is not in it"
            raise _Unfit((), why) from None
        except RecursionError:
            raise _Unfit((), "cannot be checked: the schema refers to itself") from None
        if error is not None:
            raise _Unfit(tuple(error.absolute_path), error.message)
        return value

    return read
