"""A playbook is checked whole before it starts, and each fault is named with its line."""

from __future__ import annotations

import json
from textwrap import dedent

import pytest

from orchestrator import Context, InvalidInput, Orchestrator, agent
from orchestrator.agents._playbook.document import PlaybookInvalid, read_document
from orchestrator.agents._playbook.reading import read_playbook
from orchestrator.agents._playbook.templates import (
    TemplateFailed,
    TemplateInvalid,
    compile_template,
)
from orchestrator.agents.playbook import playbook

STEPS = "name: try\nsteps:\n"
WAIT = "{id: a, type: wait, parameters: {seconds: 0}}"


def faults_in(text: str) -> list[tuple[int, str]]:
    with pytest.raises(PlaybookInvalid) as caught:
        read_playbook(text)
    return list(caught.value.problems)


def fault_of(steps: str) -> tuple[int, str]:
    """Return the only fault of a playbook with these steps, which begin on line 3."""
    (fault,) = faults_in(STEPS + dedent(steps))
    return fault


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("", 1, "is empty"),
        ("name: [", 2, "while parsing a flow node: did not find"),
        ("name: a\nname: b", 2, "'name' is there twice"),
        ("name: a\n1: b", 2, "a key must be text"),
        ("name: a\nsteps: &x [1]\nmore: *x", 2, "an alias (`*name`) is not taken"),
        ("name: !!binary aGk=", 1, "the tag"),
        ("name: a\nmore: !own b", 2, "the tag '!own' is not taken"),
        ("name: 1e999", 1, "1e999 is no number"),
        (f"name: {'9' * 5000}", 1, "is no number that can be used"),
        ("name: a\n--- \nname: b", 2, "but found another document"),
        ("name: a\nmore: \x00", 2, "a character that YAML does not allow"),
        ("a:\n" + "- " * 60 + "b", 2, "is nested more than 40 deep"),
        ("- " * 5000 + "b", 1, "exceeded maximum nesting depth"),
    ],
)
def test_what_is_no_document_is_refused_with_its_line(text: str, line: int, why: str) -> None:
    with pytest.raises(PlaybookInvalid) as caught:
        read_document(text)
    (problem,) = caught.value.problems
    assert problem[0] == line
    assert why in problem[1]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[1]", "must be a mapping; known are: name, description, inputs, session, steps, outputs"),
        (
            "text",
            "must be a mapping; known are: name, description, inputs, session, steps, outputs",
        ),
        (
            f"{STEPS}- {WAIT}\nsession: 1",
            "session: must be a mapping; known are: base_url, headers",
        ),
    ],
)
def test_what_is_no_mapping_is_told_what_it_should_be(text: str, fault: str) -> None:
    assert [why for _, why in faults_in(text)] == [fault]


def test_words_that_other_readers_of_yaml_take_for_something_else_are_text() -> None:
    text = "[no, on, 1:30, 010, 2026-01-01, 0x1f, .inf, =, <<, 1_000]"
    assert read_document(text).value == text.strip("[]").split(", ")
    assert read_document("[~, null, true, -1, 1.5, 1e3, 0]").value == [
        None, None, True, -1, 1.5, 1000.0, 0,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("steps", "line", "why"),
    [
        ("- 1", 3, "steps.0: must be a mapping; known are: id, type, name, parameters, on_error"),
        ("- {type: wait}", 3, "steps.0.id: Field required"),
        ("- {id: a b, type: wait}", 3, "steps.0.id: String should match pattern"),
        ("- id: a\n  type: wat", 4, "steps.0.type: 'wat' is none of: agent, browser, command,"),
        (f"- {WAIT}\n- {WAIT}", 4, "steps.1.id: another step has the id 'a', on line 3"),
        ("- {id: a, type: wait, more: 1}", 3, "steps.0.more: is not known; known are: id, type"),
        ("- {id: a, type: wait}", 3, "steps.0.parameters.seconds: Field required"),
        ("- id: a\n  type: wait\n  parameters:\n    seconds: x", 6, "seconds: Input should be"),
        ("- {id: a, type: wait, parameters: {seconds: -1}}", 3, "greater than or equal to 0"),
        (
            "- {id: a, type: wait, parameters: [1]}",
            3,
            "steps.0.parameters: must be an object of named values",
        ),
        ("- {id: a, type: http, parameters: {url: /, method: get}}", 3, "method: String should"),
        ("- {id: a, type: http, parameters: {url: /, json: 1, body: x}}", 3, "one of json, form"),
        ("- {id: a, type: http, parameters: {url: /, headers: {a b: c}}}", 3, "headers.a b"),
        ("- {id: a, type: http, parameters: {url: /, expect: [99]}}", 3, "expect.0: Input"),
        (
            "- {id: a, type: command, parameters: {argv: []}}",
            3,
            "parameters.argv: must have 1 item",
        ),
        ("- {id: a, type: command, parameters: {argv: [ls], env: {A=B: c}}}", 3, "env.A=B"),
        ("- {id: a, type: if, parameters: {condition: true}}", 3, "then: must be a list of at"),
        ("- {id: a, type: if, parameters: {condition: 1, then: [%s]}}", 3, "condition: Input"),
        ("- {id: a, type: if, parameters: {condition: true, then: [1]}}", 3, "then.0: must be"),
        ("- {id: a, type: parallel, parameters: {branches: []}}", 3, "branches: must be a list"),
        ("- {id: a, type: parallel, parameters: {branches: [[]]}}", 3, "branches.0: must be a"),
        ("- {id: a, type: retry, parameters: {attempts: 1, steps: [%s]}}", 3, "attempts: Input"),
        ("- {id: a, type: retry, parameters: {steps: [%s]}}", 3, "attempts: Field required"),
        (
            "- {id: a, type: foreach, parameters: {items: x, steps: [%s]}}",
            3,
            "items: must be a list",
        ),
        ("- {id: a, type: llm, parameters: {prompt: x, retries: 3}}", 3, "retries: is not known"),
    ],
)
def test_a_step_that_does_not_fit_is_named(steps: str, line: int, why: str) -> None:
    inner = "{id: inner, type: wait, parameters: {seconds: 0}}"
    found = fault_of(steps % inner if "%s" in steps else steps)
    assert found[0] == line
    assert why in found[1]


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("{{ steps.later }}", "no step 'later' is done before this one"),
        ("{{ steps['nowhere'].text }}", "no step 'nowhere' is done before this one"),
        ("{{ steps.own }}", "no step 'own' is done before this one"),
        ("{{ inputs.nothing }}", "no input is named 'nothing'"),
        ("{{ item }}", "there is no 'item' here; there are: inputs, steps"),
        ("{{ range }}", "there is no 'range' here"),
        ("{{ range(3) }}", "calls are not taken"),
        ("{{ 'a'.upper() }}", "calls are not taken"),
        ("{{ 2 ** 9 }}", "powers are not taken"),
        ("{{ 1", "unexpected end of template"),
        ("{{ }}", "Expected an expression"),
        ("{{ 1 | bash }}", "No filter named 'bash'"),
        ("{% for x in [1] %}{% endfor %}", "only expressions are taken"),
        ("{% set x = 1 %}{{ x }}", "only expressions are taken"),
    ],
)
def test_an_expression_that_cannot_work_is_named(expression: str, why: str) -> None:
    line, found = fault_of(f"""\
        - {WAIT}
        - id: own
          type: agent
          parameters:
            agent: x
            input: {{deep: ["{expression}"]}}
        - {{id: later, type: wait, parameters: {{seconds: 0}}}}
        """)
    assert (line, found.startswith("steps.1.parameters.input.deep.0: ")) == (8, True)
    assert why in found


def test_what_a_template_stands_for_is_not_judged_before_it_is_known() -> None:
    read_playbook(
        STEPS
        + dedent("""\
        - {id: a, type: wait, parameters: {seconds: "{{ 1 }}"}}
        - {id: b, type: http, parameters: {url: "{{ 1 }}", method: "{{ 1 }}", expect: ["{{ 1 }}"]}}
        - {id: c, type: foreach, parameters: {items: "{{ [1] }}", limit: "{{ 1 }}", steps: [
            {id: d, type: command, parameters: {argv: "{{ item }}", cwd: "{{ index }}"}}]}}
        - {id: e, type: agent, parameters: {agent: "{{ steps.a.x }}"}}
        """)
    )


def test_every_fault_is_named_at_once_in_the_order_of_the_lines() -> None:
    found = faults_in(
        dedent("""\
        name: many
        inputs:
          a: {type: number, default: x}
          b: {type: wat}
        steps:
          - {id: a, type: wait}
          - {id: b, type: nothing}
        outputs:
          c: "{{ steps.b }}"
          d: "{{ steps.z }}"
        """)
    )
    assert [line for line, _ in found] == [3, 4, 6, 7, 10]
    assert found[0] == (3, "inputs.a.default: 'x' is not of type 'number'")
    assert found[4] == (10, "outputs.d: no step 'z' is done before this one")


def test_steps_see_what_was_done_before_them_where_they_stand() -> None:
    """Neither the other branch, nor what is inside another step."""
    found = faults_in(
        STEPS
        + dedent("""\
        - id: outer
          type: parallel
          parameters:
            branches:
              - - {id: a, type: wait, parameters: {seconds: 0}}
                - {id: b, type: wait, parameters: {seconds: "{{ steps.a.seconds }}"}}
              - - {id: c, type: wait, parameters: {seconds: "{{ steps.a.seconds }}"}}
        - {id: d, type: wait, parameters: {seconds: "{{ steps.a.seconds }}"}}
        - {id: e, type: wait, parameters: {seconds: "{{ steps.outer[0].a.seconds }}"}}
        """)
    )
    assert [line for line, _ in found] == [9, 10]


@pytest.mark.slow
def test_nesting_and_the_number_of_steps_have_bounds() -> None:
    step = WAIT
    for depth in range(5):
        step = f"{{id: r{depth}, type: retry, parameters: {{attempts: 2, steps: [{step}]}}}}"
    assert fault_of(f"- {step}")[1].endswith("is nested more than 4 deep")
    many = "".join(f"- {{id: s{n}, type: wait, parameters: {{seconds: 0}}}}\n" for n in range(1001))
    assert fault_of(many) == (2, "steps: has more than 1000 steps")


@agent
async def greet(ctx: Context, name: str, times: int = 1) -> str:
    return name * times


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (
            "{agent: nobody}",
            "agent: no agent is named 'nobody'; registered agents: greet, playbook",
        ),
        ("{agent: greet}", "input.name: Field required"),
        ("{agent: greet, input: {name: a, times: x}}", "input.times: Input should be a valid int"),
        ("{agent: greet, input: {name: a, more: 1}}", "input.more: is not known"),
    ],
)
async def test_an_agent_that_cannot_be_called_so_is_named_at_the_start(
    orchestrator: Orchestrator, call: str, why: str
) -> None:
    orchestrator.agents.add(greet)
    text = f"{STEPS}- {WAIT}\n- {{id: b, type: agent, parameters: {call}}}"
    with pytest.raises(InvalidInput) as caught:
        await orchestrator.start(playbook, {"playbook": text})
    [(field, message)] = caught.value.problems
    assert (field, message[:27]) == ("input.playbook", "line 4: steps.1.parameters.")
    assert why in message
    assert len(orchestrator.registry) == 0


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        (None, "who: is missing"),
        ({"who": 1}, "who: 1 is not of type 'string'"),
        ({"who": "a", "often": 0}, "often: 0 is less than the minimum of 1"),
        ({"who": "a", "more": 1}, "more: is not known; known are: who, often, any"),
        ({"who": "a", "any": None}, ""),
    ],
)
async def test_the_inputs_are_checked_at_the_start(
    orchestrator: Orchestrator, inputs: dict[str, object] | None, why: str
) -> None:
    text = dedent("""\
        name: greeting
        inputs:
          who: {type: string}
          often: {type: integer, minimum: 1, default: 2}
          any: {default: null}
        steps: [{id: a, type: wait, parameters: {seconds: 0}}]
        outputs: {all: "{{ inputs }}"}
        """)
    given = {"playbook": text} | ({} if inputs is None else {"inputs": inputs})
    if why:
        with pytest.raises(InvalidInput) as caught:
            await orchestrator.start(playbook, given)
        assert caught.value.problems == (("input.inputs", why),)
    else:
        record = await (await orchestrator.start(playbook, given)).wait()
        assert record.result["outputs"]["all"] == {"who": "a", "often": 2, "any": None}


@pytest.mark.parametrize(
    ("schema", "refers"),
    [
        ({"$ref": "http://site.test/a.json"}, "to http://site.test/a.json, which is not in it"),
        ({"$id": "http://site.test/a.json", "$ref": "b"}, "to b, which is not in it"),
        ({"$ref": "#/$defs/a"}, "to /$defs/a, which is not in it"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "to itself"),
    ],
)
async def test_a_schema_that_refers_to_elsewhere_makes_no_request(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch, schema: object, refers: str
) -> None:
    """It would be made by the server, to whom the playbook says, and hold up all meanwhile."""
    asked: list[str] = []
    monkeypatch.setattr("urllib.request.urlopen", asked.append)
    text = f"name: x\ninputs: {json.dumps({'a': schema})}\nsteps: [{WAIT}]"
    with pytest.raises(InvalidInput) as caught:
        await orchestrator.start(playbook, {"playbook": text, "inputs": {"a": 1}})
    assert str(caught.value) == f"input.inputs: a: cannot be checked: the schema refers {refers}"
    assert asked == []


async def test_a_playbook_that_is_too_long_is_refused_unread(orchestrator: Orchestrator) -> None:
    with pytest.raises(InvalidInput, match="at most 100000 characters"):
        await orchestrator.start(playbook, {"playbook": "[" * 100_001})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ inputs.n + 1 }}", 3),
        (" {{ inputs.n == 2 }}\n", True),
        ("{{ inputs.list }}", [1, {"a": None}]),
        ("{{ inputs.list[1].a }}", None),
        ("{{ inputs.list | map('string') | list }}", ["1", "{'a': None}"]),
        ("{{ inputs.list | select('number') }}", [1]),
        ("{{ inputs.n }} of {{ inputs.list | length }}", "2 of 2"),
        ("{{ inputs.odd.items }}{{ inputs.odd.keys }}", "12"),
        ("{{ inputs.none | default('x', true) }}", "x"),
        ("{{ inputs.missing | default('y') }}", "y"),
        ("{{ [1.26, 2] | map('round', 1) | join(', ') }}", "1.3, 2"),
        ("{{ [{'a': 1}, {'a': 2}] | sum('a') }}", 3),
        ("{{ [{'a': [2]}, {'a': [3, 4]}] | sum(attribute='a', start=[1]) }}", [1, 2, 3, 4]),
        ("{{ [1] | tojson(2) }}", "[\n  1\n]"),
        ("{{ '{{' }}", "{{"),
        ("{# a remark #}{{ 1 }}", 1),
        ("line\n", "line\n"),
    ],
)
def test_an_expression_alone_is_its_value_and_among_text_a_text(text: str, value: object) -> None:
    inputs = {"n": 2, "list": [1, {"a": None}], "odd": {"items": 1, "keys": 2}, "none": None}
    assert compile_template(text).render({"inputs": inputs}) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{{ inputs.missing }}", "has no attribute 'missing'"),
        ("{{ inputs.missing.deeper }}", "has no attribute 'missing'"),
        ("{{ inputs.text.__class__ }}", "has no attribute '__class__'"),
        ("{{ inputs.text.format }}", "has no attribute 'format'"),
        ("{{ inputs.text * 1000000000 }}", "* takes numbers only"),
        ("{{ '%1000000000d' % 1 }}", "% takes numbers only"),
        ("{{ inputs.text + 1 }}", "can only concatenate"),
        ("{{ 1 | round(1000000000, 'floor') }}", "round takes at most 308 places"),
        ("{{ [1] | map('round', -1000000000, 'ceil') }}", "round takes at most 308 places"),
        ("{{ [1] | tojson(1000000000) }}", "tojson takes an indent from 0 to 16"),
        ("{{ 'abc' | join(inputs.long) }}", "join takes at most 1000 characters between two"),
        ("{{ ['a'] | sum(start=[]) }}", "sum takes lists only"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ [inputs.missing] }}", "is not JSON"),
    ],
)
def test_an_expression_without_a_value_says_why(text: str, why: str) -> None:
    with pytest.raises(TemplateFailed) as caught:
        compile_template(text).render({"inputs": {"text": "abc", "long": "x" * 1_001}})
    assert str(caught.value).startswith(f"{text}: ")
    assert why in str(caught.value)


@pytest.mark.parametrize("depth", [450, 20_000])
@pytest.mark.parametrize(("before", "after"), [("(", ")"), ("not ", ""), ("[", "]"), ("", ".a")])
def test_an_expression_that_is_nested_too_deeply_is_refused(
    before: str, after: str, depth: int
) -> None:
    """Neither an error of Python's own, nor a crash of its compiler."""
    with pytest.raises(TemplateInvalid, match=r"is nested too deeply|more than 500 words"):
        compile_template(f"{{{{ {before * depth}inputs{after * depth} }}}}")


def test_a_template_that_is_none_is_refused() -> None:
    with pytest.raises(TemplateInvalid, match="unexpected"):
        compile_template("{{ 1 } }")
