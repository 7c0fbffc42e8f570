// What happens at present, at a glance: each number leads to the runs behind it.

import { readPages } from './api.js';
import { h, show, text, throttled } from './dom.js';
import { LIVE, isLive, money } from './words.js';

const NUMBERS = [
  { name: 'running', says: 'running', query: 'status=running,pausing', has: (run) => ['running', 'pausing'].includes(run.status) },
  { name: 'stopping', says: 'stopping', query: 'status=stopping', has: (run) => run.status === 'stopping' },
  { name: 'asking', says: 'ask you', one: 'asks you', query: 'status=running,pausing,paused&asks=1&parent=any', all: true, has: (run) => run.waiting_for && run.status !== 'stopping' },
  { name: 'paused', says: 'paused', query: 'status=paused', has: (run) => run.status === 'paused' },
  { name: 'queued', says: 'queued', query: 'status=queued', has: (run) => run.status === 'queued' },
];

class RunSummary extends HTMLElement {
  stoppable = 0;
  asking = 0;

  open({ runs, actions }) {
    Object.assign(this, { runs, actions });
    this.numbers = NUMBERS.map((each) => ({ ...each, number: h('strong', {}, '–'), words: h('span') }));
    this.cost = h('strong', {}, '–');
    this.append(
      ...this.numbers.map((each) => (each.link = h('a', { class: each.name, href: `/?${each.query}` }, each.number, ' ', each.words))),
      (this.spent = h('span', { class: 'spent', hidden: true }, this.cost, ' spent by them')));
    const count = throttled(250, () => this.#count());
    runs.watch(count);
  }

  /** Read every live run: they are what is counted. */
  async reload() {
    const moment = this.runs.moment;
    const live = new Set();
    await readPages({ status: LIVE.join(',') }, (page) => page.forEach((run) => {
      live.add(run.id);
      this.runs.put(run, moment);
    }));
    await this.#lookAfter(live, moment);
    this.#count();
  }

  // What was live and is not among them has ended while nobody told us.
  async #lookAfter(live, moment) {
    const missing = this.runs.all().filter((run) => isLive(run.status) && !live.has(run.id) && this.runs.isWhole(run.id));
    if (missing.length <= 20) {
      await Promise.all(missing.map((run) => this.actions.refresh(run.id)));
      return;
    }
    const wanted = new Set(missing.map((run) => run.id));
    await readPages({}, (page) => {
      page.forEach((run) => wanted.delete(run.id) && this.runs.put(run, moment));
      return wanted.size > 0;
    });
    wanted.forEach((id) => isLive(this.runs.get(id)?.status) && this.runs.forget(id));
  }

  #count() {
    const live = this.runs.all().filter((run) => isLive(run.status));
    const roots = live.filter((run) => !run.parent_id);
    for (const { number, words, link, has, all, name, says, one } of this.numbers) {
      const n = (all ? live : roots).filter(has).length;
      text(number, n.toLocaleString('en-GB'));
      text(words, n === 1 && one ? one : says);
      link.classList.toggle('zero', n === 0);
      show(link, n > 0 || name === 'running');
    }
    const cost = roots.reduce((sum, run) => sum + (run.usage?.cost ?? 0), 0);
    text(this.cost, money(cost));
    show(this.spent, cost > 0);
    this.asking = live.filter((run) => run.waiting_for && run.status !== 'stopping').length;
    this.stoppable = roots.filter((run) => run.actions.includes('stop')).length;
    this.dispatchEvent(new Event('counted'));
  }
}

customElements.define('run-summary', RunSummary);
