"""Expressions in a playbook: ``{{ steps.page.status == 200 }}``.

They are Jinja2's, and expressions only: no statements and no calls, so each ends, and takes time
in proportion to what it is given. They see values as JSON has them and nothing of Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2 import nodes
from jinja2.environment import TemplateExpression
from jinja2.sandbox import ImmutableSandboxedEnvironment

from orchestrator.agent import as_json
from orchestrator.agents._playbook.filters import FILTERS
from orchestrator.errors import InvalidInput, in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.model import Json

# Words and signs of the expressions in one text.
WORDS = 500

# In what may be a template.
_MARKS = ("{{", "{%", "{#")


class TemplateFailed(RuntimeError):
    """An expression has no value."""


class TemplateInvalid(ValueError):
    """An expression cannot be read, or has what is not taken."""


class _Environment(ImmutableSandboxedEnvironment):
    """Values as JSON has them: ``a.b`` and ``a["b"]`` are members, and nothing has methods."""

    intercepted_binops = frozenset({"*", "%"})

    def getitem(self, obj: Any, argument: Any) -> Any:
        try:
            if isinstance(obj, dict | list | str):
                return obj[argument]
        except (LookupError, TypeError):
            pass
        if isinstance(obj, jinja2.Undefined):
            return obj  # what is missing is the thing to name, not what would be in it
        return self.undefined(obj=obj, name=argument)

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if not isinstance(left, int | float) or not isinstance(right, int | float):
            raise TypeError(f"{operator} takes numbers only")  # "ab" * 10**9 would be a gigabyte
        return super().call_binop(context, operator, left, right)


_environment = _Environment(
    undefined=jinja2.StrictUndefined,
    autoescape=False,
    keep_trailing_newline=True,
    # It tries each part of an expression anew at each level: 200 filters took it 19 seconds.
    optimized=False,
)
_environment.globals.clear()
_environment.filters = FILTERS


@dataclass(frozen=True, slots=True)
class Template:
    """A text with expressions.

    Attributes:
        names: the variables that it reads, each with the member that is read if that is known:
            ``("steps", "page")``.
    """

    text: str
    names: frozenset[tuple[str, str | None]]
    _value: Callable[[Mapping[str, Json]], Any]

    def render(self, variables: Mapping[str, Json]) -> Json:
        """Return its value: that of the expression if it is nothing else, otherwise a text.

        Raises:
            TemplateFailed: something in it is not there or does not fit.
        """
        try:
            value = self._value(variables)
            if isinstance(value, jinja2.Undefined):
                str(value)  # raises what it knows of the missing thing
            return as_json(list(value) if isinstance(value, Iterator) else value, "its value")
        except (jinja2.TemplateError, InvalidInput, TypeError, ValueError, ArithmeticError) as why:
            raise TemplateFailed(f"{self.text.strip()[:200]}: {in_words(why)}") from None


def is_template(value: object) -> bool:
    """Return whether a value is a text with expressions."""
    return isinstance(value, str) and any(mark in value for mark in _MARKS)


def compile_template(text: str) -> Template:
    """Read a text with expressions.

    Raises:
        TemplateInvalid: it is none.
    """
    try:
        _check_size(text)
        parsed = _environment.parse(text)
        _check(parsed)
        only = _only_expression(parsed)
        names = _names_in(parsed)  # before the compilation, which changes the tree
        if only is None:
            return Template(text, names, _environment.from_string(parsed).render)
        result = nodes.Assign(nodes.Name("result", "store", lineno=1), only, lineno=1)
        alone = _environment.from_string(nodes.Template([result], lineno=1))
        return Template(text, names, TemplateExpression(alone, undefined_to_none=False))
    except jinja2.TemplateError as error:
        raise TemplateInvalid(f"{text.strip()[:200]}: {error.message}") from None
    except (RecursionError, SyntaxError):  # of the Python that it is compiled to
        raise TemplateInvalid(f"{text.strip()[:200]}: is nested too deeply") from None


def render(value: Any, variables: Mapping[str, Json]) -> Json:
    """Return a value with each template in it replaced by what it comes to.

    Raises:
        TemplateFailed: one of them has no value.
    """
    match value:
        case Template():
            return value.render(variables)
        case dict():
            return {name: render(each, variables) for name, each in value.items()}
        case list():
            return [render(each, variables) for each in value]
        case _:
            return value


def _check_size(text: str) -> None:
    """Bound how deep an expression can be: Python's own compiler may crash on a deep one."""
    words = sum(kind not in ("data", "whitespace") for _, kind, _ in _environment.lex(text))
    if words > WORDS:
        raise jinja2.TemplateError(f"has more than {WORDS} words and signs in its expressions")


def _check(parsed: nodes.Template) -> None:
    for statement in parsed.body:
        if not isinstance(statement, nodes.Output):
            raise jinja2.TemplateError("only expressions are taken, `{{ … }}`, no statements")
    if parsed.find(nodes.Call) is not None:
        raise jinja2.TemplateError("calls are not taken; use a filter: `{{ value | length }}`")
    if parsed.find(nodes.Pow) is not None:
        raise jinja2.TemplateError("powers are not taken")


def _only_expression(parsed: nodes.Template) -> nodes.Expr | None:
    """Return the expression that a text consists of, but for white space around it."""
    parts = [part for output in parsed.find_all(nodes.Output) for part in output.nodes]
    said = [p for p in parts if not isinstance(p, nodes.TemplateData) or p.data.strip()]
    return said[0] if len(said) == 1 and not isinstance(said[0], nodes.TemplateData) else None


def _names_in(parsed: nodes.Template) -> frozenset[tuple[str, str | None]]:
    whole = {(name.name, None) for name in parsed.find_all(nodes.Name)}
    members: set[tuple[str, str | None]] = set()
    for found in parsed.find_all(nodes.Getattr):
        if isinstance(found.node, nodes.Name):
            members.add((found.node.name, found.attr))
    for item in parsed.find_all(nodes.Getitem):
        if isinstance(item.node, nodes.Name) and isinstance(item.arg, nodes.Const):
            members.add((item.node.name, str(item.arg.value)))
    return frozenset(whole | members)
