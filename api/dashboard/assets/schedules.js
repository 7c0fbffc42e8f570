// The page of recurring starts: what fires when, and what came of it.

import { read } from './api.js';
import { throttled } from './dom.js';
import { Feed } from './feed.js';
import { greeter, showFeed } from './frame.js';
import './halt-switch.js';
import './schedule-list.js';
import { mayStart } from './session.js';
import { openStartForm } from './start-form.js';
import { Runs } from './store.js';

// A schedule that fires queues a run. Of other changes nobody tells, so it is read now and then.
const AGAIN_MS = 10_000;

const find = (name) => document.querySelector(name);
const list = find('schedule-list');
const page = { runs: new Runs(JSON.parse(document.documentElement.dataset.moves)) };

const greet = greeter(page, (session) => {
  list.session = session;
  find('#add').hidden = !mayStart(session);
});

async function refresh() {
  await Promise.all([greet(), list.reload(), find('halt-switch').reload()]);
}

const again = throttled(500, () => refresh().catch(() => {}));
const feed = new Feed({
  path: '/events?types=run.queued', take: again, refresh,
  changed: () => {
    list.certain = feed.isCertain;
    showFeed(feed, page.runs);
  },
});

find('halt-switch').open();
list.open(() => read('/schedules'));
find('#add').addEventListener('click', () => openStartForm(null, again));
feed.open();
setInterval(() => document.hidden || again(), AGAIN_MS);
