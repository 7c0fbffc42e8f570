"""The modules that only compute, asked in the browser: what they must never get wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.looking import Pages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.browser.looking import Server

LIVE = ("queued", "running", "pausing", "paused")
OVER = ("succeeded", "failed", "stopped", "timed_out", "abandoned", "lost")

STORE = """
const { Runs } = await load('store.js');
const moves = JSON.parse(document.documentElement.dataset.moves);
const runs = new Runs(moves);
runs.mayAct = () => true;
runs.certain = true;
const record = (status, more) =>
    ({ id: 'r', agent: 'a', root_id: 'r', status, available_actions: moves[status], ...more });
const event = (type, data = {}) =>
    ({ seq: 1, run_id: 'r', root_id: 'r', type, at: '2026-11-20T00:00:00.000Z', data });
"""


@pytest.fixture(scope="module")
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """One page for all of them: each makes what it needs anew, and leaves the page alone."""
    pages = Pages(browser, server)
    yield pages.runs()
    pages.close()


def play(page: Page, script: str, argument: Any = None) -> Any:
    """Run a script that may ``load`` the modules of the page; return what it returns."""
    return page.evaluate(
        """([script, given]) => {
            const folder = document.querySelector('script[type=module]').src.replace(/[^/]+$/, '');
            const run = new Function('load', 'given', `return (async () => { ${script} })()`);
            return run((name) => import(folder + name), given);
        }""",
        [script, argument],
    )


@pytest.mark.parametrize("late", [*LIVE, "stopping"])
@pytest.mark.parametrize("end", OVER)
def test_what_comes_late_brings_no_run_back(page: Page, end: str, late: str) -> None:
    script = (
        STORE
        + """
    runs.put(record(given.end));
    runs.put(record(given.late));
    for (const type of ['run.started', 'run.resumed', 'run.paused', 'run.stopping'])
        runs.apply(event(type, { agent: 'a', attempt: 1 }));
    runs.expect('r', { status: 'running' });
    return [runs.get('r').status, runs.get('r').actions];
    """
    )
    assert play(page, script, {"end": end, "late": late}) == [end, ["rerun"]]


@pytest.mark.parametrize("late", LIVE)
def test_what_comes_late_takes_no_stop_back(page: Page, late: str) -> None:
    script = (
        STORE
        + """
    runs.put(record('running'));
    runs.apply(event('run.stopping', { mode: 'graceful', grace_s: 5 }));
    runs.put(record(given));
    runs.apply(event('run.resumed'));
    runs.apply(event('run.paused'));
    return [runs.get('r').status, runs.get('r').actions];
    """
    )
    assert play(page, script, late) == ["stopping", ["stop"]]


def test_an_answer_that_was_overtaken_by_an_event_gives_way(page: Page) -> None:
    script = (
        STORE
        + """
    runs.put(record('running'));
    const moment = runs.moment;
    runs.apply(event('run.paused'));
    runs.put(record('running', { owner: 'ann' }), moment);
    const overtaken = [runs.get('r').status, runs.get('r').owner];
    runs.put(record('running'), runs.moment);
    return [overtaken, runs.get('r').status];
    """
    )
    assert play(page, script) == [["paused", "ann"], "running"]


def test_an_answer_that_was_overtaken_by_another_gives_way(page: Page) -> None:
    script = (
        STORE
        + """
    runs.put(record('running'));
    const slow = runs.moment;
    runs.apply(event('run.paused'));
    runs.put(record('paused'), runs.moment);
    runs.put(record('running'), slow);
    return runs.get('r').status;
    """
    )
    assert play(page, script) == "paused"


def test_what_comes_late_says_the_rest_of_a_run_that_has_ended(page: Page) -> None:
    script = (
        STORE
        + """
    runs.apply(event('run.queued', { agent: 'a' }));
    const moment = runs.moment;
    runs.apply(event('run.failed', { status: 'failed' }));
    runs.put(record('running', { owner: 'ann' }), moment);
    const { status, owner, actions } = runs.get('r');
    return [runs.isWhole('r'), status, owner, actions];
    """
    )
    assert play(page, script) == [True, "failed", "ann", ["rerun"]]


def test_a_run_asks_until_all_is_answered(page: Page) -> None:
    script = (
        STORE
        + """
    const ask = (type, n) => runs.apply(event(`run.${type}`, { question_id: n, question: n }));
    const said = () => runs.get('r').waiting_for?.question ?? null;
    runs.put(record('running'));
    ask('asked', 'one');
    ask('asked', 'two');
    ask('asked', 'two');
    const all = [said()];
    ask('answered', 'one');
    all.push(said());
    ask('withdrawn', 'two');
    return [...all, said()];
    """
    )
    assert play(page, script) == ["one", "two", None]


def test_a_wish_is_shown_until_it_is_taken_back(page: Page) -> None:
    script = (
        STORE
        + """
    runs.put(record('running'));
    const takeBack = runs.expect('r', { status: 'stopping' });
    const during = [runs.get('r').status, runs.get('r').actions, runs.get('r').pending];
    takeBack();
    return [during, runs.get('r').status, runs.get('r').actions];
    """
    )
    assert play(page, script) == [["stopping", [], True], "running", ["stop", "pause"]]


def test_while_nothing_is_certain_only_a_stop_is_offered(page: Page) -> None:
    script = (
        STORE
        + """
    runs.put(record('paused'));
    runs.certain = false;
    return runs.get('r').actions;
    """
    )
    assert play(page, script) == ["stop"]


FEED = """
const { Feed } = await load('feed.js');
const [asked, read] = [[], []];
const fetched = window.fetch;
window.fetch = (path, options) =>
    path === '/stream' ? new Promise((answer) => asked.push(answer)) : fetched(path, options);
const until = async (seen) => { while (!seen()) await new Promise((done) => setTimeout(done)); };
const refresh = () => new Promise((done) => read.push(done));
const feed = new Feed({ path: '/stream', take: () => {}, refresh, changed: () => {} });
feed.open();
"""


def test_a_reading_that_outlives_its_stream_makes_no_other_live(page: Page) -> None:
    script = (
        FEED
        + """
    let cut;
    const said = new TextEncoder().encode('event: reset\\ndata: {}\\n\\n');
    const body = new ReadableStream({ start(to) { to.enqueue(said); cut = () => to.close(); } });
    await until(() => asked.length === 1);
    asked[0](new Response(body));
    await until(() => read.length === 1);
    cut();
    await until(() => read.length === 2);
    read[1]();
    await until(() => feed.state === 'polling');
    window.dispatchEvent(new Event('online'));
    await until(() => asked.length === 2);
    read[0]();
    await new Promise((done) => setTimeout(done));
    const { state } = feed;
    feed.finish();
    window.fetch = fetched;
    return state;
    """
    )
    assert play(page, script) == "polling"


def test_time_is_drawn_in_proportion_and_idle_time_short(page: Page) -> None:
    script = """
    const { makeScale } = await load('timescale.js');
    const even = makeScale({ from: 100, to: 200, width: 1000 });
    const idle = [{ from: 110, to: 190 }];
    const short = makeScale({ from: 100, to: 200, width: 1000, idle });
    const round = [100, 105, 110, 150, 190, 200].map((time) => short.time(short.x(time)));
    return [
        [100, 150, 200, 250].map(even.x), even.marks().map(({ after }) => after),
        [100, 110, 190, 200].map((time) => Math.round(short.x(time))), short.cuts.length,
        round.map(Math.round), makeScale({ from: 5, to: 5, width: 10 }).x(5),
    ];
    """
    even, marks, short, cuts, there_and_back, point = play(page, script)
    assert even == [0, 500, 1000, 1000]
    assert marks == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert (short, cuts) == ([0, 470, 530, 1000], 1)
    assert there_and_back == [100, 105, 110, 150, 190, 200]
    assert point == 0


def test_no_bar_outlives_the_run_above_it(page: Page) -> None:
    script = """
    const { Tree, endOf, cleanupOf } = await load('tree.js');
    const { shownStatus } = await load('timeline-row.js');
    const tree = new Tree();
    let seq = 0;
    const tell = (run_id, type, second, data = {}) => tree.take({ seq: ++seq, run_id, type, data,
        root_id: 'top', at: new Date(second * 1000).toISOString() });
    tell('top', 'run.queued', 0, { agent: 'a', parent_id: null });
    tell('kid', 'run.queued', 1, { agent: 'b', parent_id: 'top' });
    tell('kid', 'run.started', 1, { agent: 'b', attempt: 1 });
    tell('kid', 'operation.started', 2, { operation: 1, kind: 'llm', label: 'x' });
    tell('top', 'run.stopping', 3, { mode: 'graceful', grace_s: 9 });
    const before = cleanupOf(tree.top);
    tell('top', 'run.lost', 5, { status: 'lost' });
    const kid = tree.nodes.get('kid');
    return [before, endOf(kid), shownStatus(kid, { status: 'running' }), tree.take({ seq: 1 })];
    """
    assert play(page, script) == [None, 5, "lost", False]


@pytest.mark.parametrize(
    ("tasks", "stop", "words"),
    [
        ([], {}, "after 2 requests in flight complete"),
        ([], {"mode": "now"}, "closing 2 connections"),
        ([{"operation": "critical commit", "frames": []}], {}, "until its critical section commit"),
    ],
    ids=["graceful", "now", "critical"],
)
def test_what_a_stop_waits_for(
    page: Page, tasks: list[Any], stop: dict[str, str], words: str
) -> None:
    script = """
    const { Tree } = await load('tree.js');
    const { waitsFor } = await load('waits.js');
    const tree = new Tree();
    const head = { run_id: 'r', root_id: 'r', at: new Date(0).toISOString() };
    const tell = (type, data) => tree.take({ ...head, seq: tree.last + 1, type, data });
    tell('run.queued', { agent: 'a', parent_id: null });
    for (const operation of [1, 2])
        tell('operation.started', { operation, kind: 'http', label: 'x' });
    tell('run.stopping', { mode: 'graceful', grace_s: 8 });
    const stop = { mode: 'graceful', also: [], ...given.stop };
    const run = { id: 'r', status: 'stopping', stop };
    return waitsFor(tree, run, 1, given.tasks);
    """
    said = play(page, script, {"tasks": tasks, "stop": stop})
    assert said["words"].startswith(words)
    assert said["until"] == (8 if words.startswith("after") else None)


def test_durations_are_said_shortly(page: Page) -> None:
    script = """
    const { span, wholeSpan, age, money } = await load('words.js');
    return [[0, 0.0123, 0.9999, 1.234, 8, 59.96, 61, 3725, 90061].map(span), wholeSpan(59.6),
        [1, 59, 61, 7200, 200000].map(age), [0, 0.0021, 1.5].map(money)];
    """
    assert play(page, script) == [
        [
            "0 s",
            "12 ms",
            "1.00 s",
            "1.23 s",
            "8 s",
            "1 min 0 s",
            "1 min 1 s",
            "1 h 2 min",
            "1 d 1 h",
        ],
        "1 min 0 s",
        ["just now", "59 s ago", "1 min ago", "2 h ago", "2 d ago"],
        ["$0", "$0.0021", "$1.50"],
    ]
