// The schedules, each with when it fires next, and what can be done with it.

import { now, send } from './api.js';
import { confirm } from './confirm.js';
import { h, icon, text } from './dom.js';
import { mayAct } from './session.js';
import { toast } from './toasts.js';
import { dayAndClock, ownerOf, seconds, shortId, wholeSpan } from './words.js';

class ScheduleList extends HTMLElement {
  #schedules = null;
  #session = null;
  #certain = false;
  #drawn = '';
  #whens = new Map();

  /** read: returns the answer of `GET /schedules`. */
  open(read) {
    this.read = read;
    this.append(h('div', { class: 'bone' }));
    setInterval(() => this.#draw(), 1_000);
  }

  set session(session) {
    this.#session = session;
    this.#draw();
  }

  /** While what is shown may be out of date, nothing is offered. */
  set certain(certain) {
    this.#certain = certain;
    this.#draw();
  }

  async reload() {
    this.#schedules = (await this.read()).schedules;
    this.#draw();
  }

  #draw() {
    if (!this.#schedules || !this.#session) return;
    this.#drawCards(JSON.stringify([this.#schedules, this.#certain]));
    this.#schedules.forEach((each) => text(this.#whens.get(each.id), next(each)));
  }

  // Only when they are other ones: a button that is replaced each second cannot be pressed for sure.
  #drawCards(key) {
    if (key === this.#drawn) return;
    this.#drawn = key;
    const focus = document.activeElement?.id;
    this.#whens.clear();
    this.replaceChildren(...(this.#schedules.length ? [h('ul', { class: 'schedules' }, this.#schedules.map((each) => this.#card(each)))] : nothing()));
    if (focus) document.getElementById(focus)?.focus();
  }

  #card(schedule) {
    const when = h('span');
    this.#whens.set(schedule.id, when);
    const { id, agent, cron, zone, paused, last_at: last, last_run_id: run, last_skip: skipped } = schedule;
    return h('li', { class: 'card schedule', 'aria-label': `Schedule ${id}`, 'data-paused': paused },
      h('div', {}, h('h2', {}, agent, ' ', h('code', {}, id)),
        h('p', {}, h('code', {}, cron), ` ${zone}`, ownerOf(schedule) && h('span', { class: 'hint' }, ` · ${ownerOf(schedule)}`), h('span', { class: 'hint' }, ` · ${OVERLAPS[schedule.overlap]}`))),
      h('div', { class: 'when' }, h('p', {}, h('span', { class: `chip ${paused ? 'paused' : ''}` }, icon(paused ? 'paused' : 'queued'), when)),
        h('p', { class: 'hint' }, last ? [`last ${dayAndClock(last)}: `, run ? h('a', { id: `last-${id}`, href: `/dashboard/runs/${run}` }, shortId(run)) : 'no run'] : 'it has not fired yet', skipped && `, then skipped: ${skipped}`)),
      h('div', { class: 'do' }, this.#buttons(schedule)));
  }

  #buttons(schedule) {
    if (!this.#certain || !mayAct(this.#session, schedule)) return [];
    const { id, agent, paused } = schedule;
    const path = `/schedules/${encodeURIComponent(id)}`;
    const verb = paused ? 'resume' : 'pause';
    const words = paused ? 'Resume' : 'Pause';
    const says = 'It starts nothing any more. Its runs go on, and stay in the list.';
    return [
      h('button', { type: 'button', id: `turn-${id}`, 'aria-label': `${words} ${id}`, onclick: () => this.#change('POST', `${path}/${verb}`) }, icon(paused ? 'play' : 'paused'), words),
      h('button', { type: 'button', id: `delete-${id}`, class: 'quiet', 'aria-label': `Delete ${id}`,
        onclick: () => confirm({ title: ['Delete the schedule of ', h('strong', {}, agent), ' ', h('code', {}, id)], says, does: 'Delete', keep: 'Keep it' }, () => this.#change('DELETE', path)) }, 'Delete…'),
    ];
  }

  // What it comes to is what the server says then.
  async #change(method, path) {
    try {
      await send(method, path);
    } catch (problem) {
      if (!problem.isBehind) toast(`That could not be done: ${problem.message}.`, { kind: 'error' });
    }
    await this.reload().catch(() => {});
  }
}

const OVERLAPS = {
  skip: 'left out while a run goes on', allow: 'runs may overlap',
  enqueue: 'runs wait for the one before', stop_previous: 'each run stops the one before',
};

function next({ paused, next_at: at }) {
  if (paused) return 'paused';
  if (!at) return 'never fires';
  const left = seconds(at) - now();
  return left > 0 ? `in ${wholeSpan(left)}` : 'now';
}

const nothing = () => [h('div', { class: 'state' }, icon('queued'), h('p', {}, 'There are no schedules.'),
  h('p', { class: 'hint' }, 'Add one here, or with ', h('code', {}, 'quiesce schedule add AGENT --cron …')))];

customElements.define('schedule-list', ScheduleList);
