// Many runs at once: what is selected, how they are stopped, and what becomes of that.

import { Problem, readPages } from './api.js';
import { h, icon, show, text } from './dom.js';
import { askToStopMany } from './stop-panel.js';
import { toast } from './toasts.js';
import { count, isLive, LIVE } from './words.js';

class BulkBar extends HTMLElement {
  #selected = new Set();
  #followed = new Set();

  open(page, list) {
    Object.assign(this, { page, list });
    this.said = h('span', { role: 'status' });
    this.matching = h('button', { type: 'button', class: 'link', onclick: () => this.#selectMatching() }, 'Select all that match');
    this.chosen = h('div', { class: 'bulk', role: 'region', 'aria-label': 'Selected runs', hidden: true }, this.said, this.matching,
      h('button', { type: 'button', class: 'danger', onclick: () => this.#stop([...this.#selected]) }, icon('stop'), 'Stop…'),
      h('button', { type: 'button', class: 'quiet', onclick: () => this.clear() }, 'Clear'));
    this.tally = h('span', { role: 'status' });
    this.bar = h('progress-bar');
    this.harder = h('button', { type: 'button', class: 'danger outline', onclick: () => this.#stop(this.#live()) }, 'Stop the rest harder…');
    this.under = h('div', { class: 'bulk', role: 'region', 'aria-label': 'Stop of many runs', hidden: true }, this.tally, this.bar, this.harder,
      h('button', { type: 'button', class: 'quiet', onclick: () => this.#leave() }, icon('close'), 'Close'));
    this.append(this.under, this.chosen);
    page.runs.watch(() => this.#count());
  }

  has(id) {
    return this.#selected.has(id);
  }

  /** Whether it is counted until all of a stop have ended. */
  follows(id) {
    return this.#followed.has(id);
  }

  select(id, chosen) {
    this.#selected[chosen ? 'add' : 'delete'](id);
    this.#show();
  }

  selectAll(chosen) {
    const may = this.list.shown.filter((id) => this.page.runs.get(id).actions.includes('stop'));
    this.#selected = new Set(chosen ? may : []);
    this.#show();
  }

  clear() {
    this.#selected.clear();
    this.#show();
  }

  /** Stop all that is live and matches the filter: it is counted first. */
  async stopAll() {
    const ids = await this.#matching(() => this.stopAll());
    if (ids) this.#stop(ids);
  }

  async #selectMatching() {
    const ids = await this.#matching(() => this.#selectMatching());
    if (!ids) return;
    this.#selected = new Set(ids);
    this.#show();
  }

  // Exactly the runs that are counted are stopped: not what matches by the time of the click.
  async #matching(again) {
    const { query } = this.list;
    try {
      const ids = await this.#readMatching();
      // Who looks at others by now has not meant these.
      return query === this.list.query ? ids : null;
    } catch (problem) {
      toast(`The runs could not be counted: ${problem.message}.`, { kind: 'error', action: { label: 'Try again', call: again } });
      return null;
    }
  }

  async #readMatching() {
    const { query } = this.list;
    const moment = this.page.runs.moment;
    const wanted = query.status ? query.status.split(',').filter((status) => LIVE.includes(status)) : LIVE;
    const ids = [];
    if (wanted.length) {
      await readPages({ ...query, status: wanted.join(',') }, (page) => page.forEach((run) => {
        this.page.runs.put(run, moment);
        ids.push(run.id);
      }));
    }
    return this.list.sift(ids).filter((id) => this.page.runs.get(id).actions.includes('stop'));
  }

  #stop(ids) {
    const all = ids.map((id) => this.page.runs.get(id)).filter(Boolean);
    // While an answer is due nobody knows what may be asked, but a stop may be asked twice.
    const live = all.filter((run) => run.actions.includes('stop') || (run.pending && isLive(run.status)));
    if (live.length === 0) {
      toast('There is nothing to stop: all of them have ended.');
      return;
    }
    askToStopMany(live, { passed: all.length - live.length, stop: (order) => this.#carryOut(live, order) });
  }

  async #carryOut(runs, order) {
    this.#leave();
    const mine = (this.#followed = new Set(runs.map((run) => run.id)));
    this.clear();
    show(this.under, true);
    this.#count();
    const results = await this.page.actions.stopMany(runs, order, (left) => this.#carryOut(left, order));
    // What could not be asked for goes on, and nobody waits for its end.
    const asked = new Set(results.map((result) => result.run_id));
    mine.forEach((id) => asked.has(id) || mine.delete(id));
    if (mine.size === 0 && mine === this.#followed) this.#leave();
    const problems = results.filter((result) => result.problem).map(({ status_code: status, problem }) => new Problem(status, problem.detail, problem));
    const refused = problems.filter((problem) => !problem.isBehind);
    if (refused.length) toast(`${count(refused.length, 'run')} could not be stopped: ${refused[0].message}.`, { kind: 'error' });
    this.#count();
  }

  // What is over and not shown would only fill the memory.
  #leave() {
    show(this.under, false);
    const over = [...this.#followed].filter((id) => !isLive(this.page.runs.get(id)?.status));
    over.forEach((id) => this.list.has(id) || this.page.runs.forget(id));
    this.#followed.clear();
  }

  #live() {
    return [...this.#followed].filter((id) => isLive(this.page.runs.get(id)?.status));
  }

  #show() {
    text(this.said, `${count(this.#selected.size, 'run')} selected`);
    show(this.chosen, this.#selected.size > 0);
    document.body.classList.toggle('choosing', this.#selected.size > 0);
    this.list.mark();
  }

  #count() {
    if (this.under.hidden) return;
    const live = this.#live().length;
    const all = this.#followed.size;
    const over = all - live;
    text(this.tally, live ? `Stopping ${count(all, 'run')}: ${over} ended, ${live} to go` : `All ${all} have ended`);
    this.bar.show((100 * over) / (all || 1), live ? 'stopping' : 'stopped', 'Runs that have ended');
    show(this.harder, live > 0);
  }
}

customElements.define('bulk-bar', BulkBar);
