// The page of one run: everything that its events tell, and what must be asked for besides.

import { Actions } from './actions.js';
import { read } from './api.js';
import { h, icon, text, throttled } from './dom.js';
import { Feed } from './feed.js';
import { greeter, onKey, showFeed } from './frame.js';
import './halt-switch.js';
import { isEnding } from './reduce.js';
import './run-facts.js';
import './run-head.js';
import './run-log.js';
import './run-questions.js';
import './run-results.js';
import './run-stack.js';
import './run-timeline.js';
import './stop-receipt.js';
import { Runs } from './store.js';
import { announce } from './toasts.js';
import { Tree } from './tree.js';
import { familyOf, isLive, statusWord } from './words.js';

const find = (name) => document.querySelector(name);
const { run: id } = find('#run').dataset;
const runs = new Runs(JSON.parse(document.documentElement.dataset.moves));
runs.above = id;
const page = { id, runs, tree: new Tree(), actions: new Actions(runs), caughtUp: false };
const greet = greeter(page);
const views = ['run-head', 'run-questions', 'run-timeline', 'run-log', 'run-results', 'run-stack', 'run-facts', 'stop-receipt'].map(find);
let status = null;

const feed = new Feed({ path: `/runs/${id}/events`, take, refresh, changed: () => showFeed(feed, runs), readFirst: true });

function take(said, name) {
  if (name === 'snapshot') {
    runs.put(said);
    feed.finish();
    return;
  }
  if (!page.tree.take(said)) return;
  runs.apply(said);
  draw();
  if (said.run_id === id || said.data.kind === 'llm') learn(said);
}

// What events do not say (what was spent, who else asked) is read when they say that it may differ.
const readAgain = throttled(1_000, () => page.actions.refresh(id).catch(() => {}));

function learn(event) {
  if (event.data.source === 'halt') find('halt-switch').reload().catch(() => {});
  if (event.type === 'operation.finished' || (familyOf(event) === 'life' && !isEnding(event))) readAgain();
}

async function refresh() {
  try {
    await Promise.all([greet(), page.caughtUp || readRun()]);
    await readEvents();
    await readRun();
  } catch (problem) {
    if (problem.status !== 404) throw problem;
    gone();
  }
  await find('halt-switch').reload();
}

async function readRun() {
  const moment = runs.moment;
  runs.put(await read(`/runs/${id}`), moment);
}

// The run itself is read after its events, so they say nothing new of it.
async function readEvents() {
  let next = page.tree.last;
  while (next != null) {
    const got = await read(`/runs/${id}/events?after=${next}&limit=500`);
    got.events.forEach((event) => page.tree.take(event) && event.run_id !== id && runs.apply(event));
    draw();
    next = got.next;
  }
  page.caughtUp = true;
  feed.last = page.tree.last;
  draw();
}

function gone() {
  feed.finish();
  find('#run').replaceChildren(h('div', { class: 'state' }, icon('lost'), h('h1', {}, 'There is no such run'),
    h('p', {}, 'It was removed, or it never was, or you may not see it.'), h('a', { class: 'button', href: '/' }, 'All runs')));
}

// At once; but while very much happens not all the time.
const draw = throttled(100, () => {
  const run = runs.get(id);
  if (run?.status) views.forEach((view) => view.show(run, page));
});

runs.watch((changed) => {
  if (changed.has(id) && !runs.has(id)) gone();
  const run = runs.get(id);
  if (changed.has(id) && run?.status) note(run);
  draw();
});

function note(run) {
  text(find('#trail'), run.agent);
  document.title = `${statusWord(run.status)} · ${run.agent} · Quiesce`;
  if (status && status !== run.status) announce(`${run.agent} is ${statusWord(run.status)}`);
  status = run.status;
  if (!isLive(status) && page.caughtUp && isEnding(page.tree.events.at(-1) ?? {})) feed.finish();
}

find('halt-switch').open();
views.forEach((view) => view.open?.(page));
onKey('s', () => find('run-timeline').stopFocused() || find('run-head').stop());
feed.open();
setInterval(() => !document.hidden && isLive(status ?? 'queued') && draw(), 500);
setInterval(draw, 30_000);
