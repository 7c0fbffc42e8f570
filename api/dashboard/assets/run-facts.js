// What a run was given, what it spent, and where it comes from.

import { read } from './api.js';
import { fill, h, icon } from './dom.js';
import { jsonView } from './json-view.js';
import { chip } from './chip.js';
import { count, dayAndClock, money, shortId } from './words.js';

const BEFORE = 10; // of a longer history the rest is a link away

class RunFacts extends HTMLElement {
  #history = null;

  open(page) {
    this.page = page;
    [this.input, this.spent, this.options, this.past] = [0, 0, 0, 0].map(() => h('div'));
    this.append(this.input, this.spent, this.past, this.options);
  }

  show(run, { tree }) {
    fill(this.input, `${run.id} ${run.input !== undefined}`, () => section('Input', run.input == null || !Object.keys(run.input).length ? h('p', { class: 'hint' }, 'None.') : jsonView(run.input)));
    const { usage = {} } = run;
    fill(this.spent, JSON.stringify(usage), () => usage.requests > 0 && section('Spent on models', h('dl', { class: 'facts' },
      [['Cost', money(usage.cost)], ['Calls', usage.requests], ['Tokens in', usage.input_tokens.toLocaleString('en-GB')], ['Tokens out', usage.output_tokens.toLocaleString('en-GB')]].map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', { class: 'num' }, value))))));
    fill(this.options, `${JSON.stringify(run.options)}`, () => run.options && h('details', { class: 'card' }, h('summary', {}, icon('chevron'), h('h2', {}, 'Options')), jsonView(run.options)));
    this.#showPast(run, tree);
  }

  #showPast(run, tree) {
    if (this.#history === null && run.rerun_of !== undefined) {
      this.#history = [];
      this.#follow(run.rerun_of);
    }
    const starts = tree.nodes.get(run.id)?.starts ?? [];
    const above = run.parent_id ? run : null;
    fill(this.past, `${starts.length} ${this.#history?.length} ${above?.id}`, () => (starts.length > 1 || this.#history?.length || above) && section('History', [
      above && h('p', {}, 'A sub-agent of ', h('a', { href: `/dashboard/runs/${run.parent_id}` }, shortId(run.parent_id)), run.root_id !== run.parent_id && [', in the tree of ', h('a', { href: `/dashboard/runs/${run.root_id}` }, shortId(run.root_id))]),
      starts.length > 1 && h('ol', { class: 'past' }, starts.map(({ attempt, at }) => h('li', {}, `Attempt ${attempt}`, h('span', { class: 'hint' }, dayAndClock(at * 1000))))),
      this.#history?.length > 0 && h('div', {}, h('p', { class: 'hint' }, 'A rerun of'), h('ol', { class: 'past' }, this.#history.map((each) => h('li', {}, chip(each.status), h('a', { href: `/dashboard/runs/${each.id}` }, shortId(each.id)), h('span', { class: 'hint' }, dayAndClock(each.created_at)))))),
    ]));
  }

  async #follow(id) {
    for (let left = BEFORE; id && left > 0; left--) {
      const run = await read(`/runs/${id}`).catch(() => null);
      if (!run) return;
      this.#history = [...this.#history, run];
      id = run.rerun_of;
      this.#showPast(this.page.runs.get(this.page.id), this.page.tree);
    }
  }
}

const section = (title, ...children) => h('section', { class: 'card', 'aria-label': title }, h('h2', {}, title), children.flat());

customElements.define('run-facts', RunFacts);
