// The page of all runs.

import { Actions } from './actions.js';
import './bulk-bar.js';
import { address, throttled } from './dom.js';
import { Feed } from './feed.js';
import { greeter, onKey, showFeed } from './frame.js';
import './halt-switch.js';
import { isEnding } from './reduce.js';
import './run-filters.js';
import './run-list.js';
import './run-summary.js';
import { mayStart } from './session.js';
import { openStartForm } from './start-form.js';
import { Runs } from './store.js';

// What a row shows changes by these alone; a crowd of operations would be noise here.
const TYPES = 'queued started progress deadline tagged pausing paused resumed asked answered withdrawn stopping'
  + ' escalated succeeded failed stopped timed_out abandoned lost';
const EVENTS = `/events?types=${TYPES.split(' ').map((type) => `run.${type}`).join(',')}`;

const find = (name) => document.querySelector(name);
const [list, filters, summary, bulk] = ['run-list', 'run-filters', 'run-summary', 'bulk-bar'].map(find);

const runs = new Runs(JSON.parse(document.documentElement.dataset.moves));
const page = { runs, actions: new Actions(runs) };

const greet = greeter(page, (session) => {
  find('#start').hidden = !mayStart(session);
  find('#stop-all').hidden = !mayStart(session);
  list.classList.toggle('looking', !mayStart(session));
  if (address.get('start') && mayStart(session)) openStartForm(address.get('start'));
});

const halted = throttled(500, () => find('halt-switch').reload().catch(() => {}));

const feed = new Feed({
  path: EVENTS,
  take(event) {
    runs.apply(event);
    if (event.data.source === 'halt' && event.run_id === event.root_id) halted();
    if (event.type === 'run.queued' || list.awaits(event)) list.arrived(event);
    // What is over and not shown would only fill the memory.
    else if (isEnding(event) && !list.has(event.run_id) && !bulk.follows(event.run_id)) runs.forget(event.run_id);
  },
  refresh: () => Promise.all([greet(), list.reload(), summary.reload(), find('halt-switch').reload()]),
  changed: () => showFeed(feed, runs),
});

list.open(page, bulk);
summary.open(page);
bulk.open(page, list);
find('halt-switch').open();
filters.open((query) => list.ask(query));
filters.addEventListener('change', () => bulk.clear());
list.ask(filters.query);
find('#stop-all').addEventListener('click', () => bulk.stopAll());
summary.addEventListener('counted', () => {
  find('#stop-all').disabled = summary.stoppable === 0;
  document.title = `${summary.asking ? `(${summary.asking}) ` : ''}Runs · Quiesce`;
});
find('#start').addEventListener('click', () => openStartForm());
onKey('/', () => find('#search').focus());
onKey('s', (event) => list.stopFocused(event.target));

greet().catch(() => {});
feed.open();
setInterval(() => list.tick(), 1_000);
