// One run in the list.

import { now } from './api.js';
import './chip.js';
import { attribute, h, icon, show, text } from './dom.js';
import './progress.js';
import './stop-button.js';
import { age, clock, count, dayAndClock, isLive, money, ownerOf, seconds, shortId, span, statusWord, who, wholeSpan } from './words.js';

export class RunRow {
  #tags = '';

  constructor(page, bulk) {
    this.page = page;
    this.select = h('input', { type: 'checkbox', onchange: () => bulk.select(this.run.id, this.select.checked) });
    this.bulk = bulk;
    this.chip = h('status-chip');
    this.link = h('a', { class: 'to' });
    this.id = h('code');
    this.tags = h('span', { class: 'tags' });
    this.bar = h('progress-bar');
    this.words = h('span', { class: 'words' });
    this.stop = h('stop-button');
    this.again = h('button', { type: 'button', class: 'quiet', onclick: () => page.actions.rerun(this.run) }, icon('rerun'), 'Rerun');
    [this.owner, this.begun, this.took, this.cost] = ['owner', 'begun', 'took', 'cost'].map((name) => h('span', { class: name, role: 'cell' }));
    this.element = h('div', { class: 'row', role: 'row' }, this.#cells());
    this.element.view = this;
  }

  #cells() {
    const cell = (name, ...children) => h('span', { class: name, role: 'cell' }, children);
    return [
      cell('select', this.select), cell('status', this.chip), cell('agent', this.link, this.id, this.tags),
      cell('progress', this.bar, this.words), this.owner, this.begun, this.took, this.cost, cell('actions', this.stop, this.again),
    ];
  }

  show(run) {
    this.run = run;
    const name = `${run.agent} ${run.id}`;
    this.element.dataset.status = run.status;
    this.select.checked = this.bulk.has(run.id);
    attribute(this.select, 'aria-label', `Select ${name}`);
    show(this.select, run.actions.includes('stop') || this.select.checked);
    this.chip.status = run.status;
    attribute(this.link, 'href', `/dashboard/runs/${run.id}`);
    text(this.link, run.agent);
    text(this.id, shortId(run.id));
    text(this.owner, ownerOf(run));
    this.#showTags(run.tags ?? []);
    this.#showTimes(run);
    text(this.cost, run.usage?.cost ? money(run.usage.cost) : '');
    this.#showProgress(run);
    this.stop.show(run, this.page, { small: true });
    show(this.again, run.actions.includes('rerun'));
    attribute(this.again, 'aria-label', `Rerun ${name}`);
  }

  #showTags(tags) {
    const key = tags.join('\n');
    if (key === this.#tags) return;
    this.#tags = key;
    this.tags.replaceChildren(...tags.slice(0, 3).map((tag) => h('a', { class: 'tag', href: `/?tag=${encodeURIComponent(tag)}` }, tag)));
  }

  #showTimes(run) {
    const began = run.started_at ?? run.created_at;
    text(this.begun, began ? age(now() - seconds(began)) : '');
    attribute(this.begun, 'title', began && dayAndClock(began));
    const took = run.started_at && (run.ended_at ? span(seconds(run.ended_at) - seconds(run.started_at)) : wholeSpan(now() - seconds(run.started_at)));
    text(this.took, took);
  }

  #showProgress(run) {
    const percent = run.progress?.percent;
    const counts = percent > 0;
    show(this.bar, counts || moves(run));
    this.bar.show(counts ? percent : null, run.status, `Progress of ${run.agent}`);
    const words = saying(run);
    text(this.words, words);
    attribute(this.words, 'title', words);
  }
}

/** Whether it is at work, though nobody knows how far. */
export const moves = (run) => ['running', 'stopping'].includes(run.status) && !run.waiting_for;

/** What is most worth knowing of a run, in one line. */
export function saying(run, { due = true } = {}) {
  const said = run.progress?.message ?? '';
  if (run.status === 'stopping') return stopping(run.stop);
  if (isLive(run.status)) return run.waiting_for ? `asks: ${run.waiting_for.question}` : live(run, said, due);
  if (run.error) return `${run.error.type}: ${run.error.message}`;
  return run.stop ? stopped(run) : said;
}

function live(run, said, due) {
  const percent = run.progress?.percent > 0 ? `${Math.round(run.progress.percent)} %` : '';
  const until = due && run.deadline_at ? `until ${clock(run.deadline_at)}` : '';
  return [percent, said, until].filter(Boolean).join(' · ');
}

function stopping(stop) {
  if (!stop?.requested_at) return 'asked to stop';
  const since = wholeSpan(now() - seconds(stop.requested_at));
  const left = stop.grace_s && stop.mode === 'graceful' ? stop.grace_s - (now() - seconds(stop.requested_at)) : 0;
  const wait = left > 0 ? `, what is in flight has ${wholeSpan(left)} left` : '';
  return `${stop.mode}, by ${who(stop)} ${since} ago${wait}${stop.reason ? `: ${stop.reason}` : ''}`;
}

function stopped({ stop, status }) {
  const how = status === 'stopped' ? 'by' : `${statusWord(status)}, by`;
  const cut = stop.operations?.cut ? `, ${count(stop.operations.cut, 'operation')} cut` : '';
  const took = stop.seconds == null ? '' : ` in ${span(stop.seconds)}`;
  return `${how} ${who(stop)}${took}${cut}${stop.reason ? `: ${stop.reason}` : ''}`;
}
