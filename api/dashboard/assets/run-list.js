// The list of runs: live, paged by cursor, and only as many rows as can be seen.

import { read } from './api.js';
import { h, icon, show, text, throttled } from './dom.js';
import { isEnding } from './reduce.js';
import { RunRow } from './run-row.js';
import { count, isLive, ownerOf, seconds } from './words.js';
import { VirtualRows } from './virtual.js';

const PAGE = 100;
const MOST = 500;
const FEW = 4; // are read one by one
const AGAIN_MS = 2_000;
const COLUMNS = ['Status', 'Agent', 'Progress', 'Owner', 'Begun', 'Took', 'Cost', 'Actions'];

class RunList extends HTMLElement {
  ids = [];
  query = {};
  words = [];
  #next = null;
  #shown = [];
  #known = new Set();
  #arrivals = [];
  #waiting = [];
  // Those that are being asked for, and so are not forgotten when they end meanwhile.
  #arriving = new Set();
  // Those that came since a reading of the list began, which may not know them.
  #late = new Set();
  #meet = throttled(200, () => this.#greet());
  #loading = null;
  #problem = null;
  #asked = 0;

  open(page, bulk) {
    Object.assign(this, { page, bulk });
    this.all = h('input', { type: 'checkbox', onchange: () => bulk.selectAll(this.all.checked) });
    this.rows = h('div', { class: 'rows', role: 'rowgroup' });
    this.fresh = h('button', { type: 'button', class: 'fresh', hidden: true, onclick: () => this.#showWaiting(true) }, icon('up'), h('span'));
    this.foot = h('div', { class: 'foot', role: 'status' });
    const head = h('div', { role: 'row', class: 'row header' }, h('span', { role: 'columnheader', class: 'select' }, h('label', { class: 'check' }, this.all, h('span', { class: 'all' }, 'Select all'))),
      COLUMNS.map((name) => h('span', { role: 'columnheader', class: name.toLowerCase() }, name)));
    this.table = h('div', { role: 'table', 'aria-label': 'Runs', 'aria-colcount': COLUMNS.length + 1 }, h('div', { role: 'rowgroup' }, head), this.rows);
    this.append(this.fresh, this.table, this.foot);
    this.list = new VirtualRows(this.rows, {
      keys: () => this.#shown,
      make: () => new RunRow(page, bulk).element,
      update: (row, id) => page.runs.has(id) && row.view.show(page.runs.get(id)),
      moved: (_, last) => last > this.#shown.length - PAGE / 2 && this.#more(),
    });
    page.runs.watch((changed) => this.#changed(changed));
    window.addEventListener('scroll', () => window.scrollY < 80 && this.#showWaiting(), { passive: true });
  }

  /** Show what matches a query: filters of the API, `q`, words that must occur, and `asks`. */
  ask({ q = '', asks, ...query }) {
    this.query = query;
    this.asking = Boolean(asks);
    this.words = q.toLowerCase().split(/\s+/).filter(Boolean);
    this.#asked++;
    this.#take([], null);
    this.#loading = null;
    this.#more(true);
  }

  /** Read anew all that is loaded. */
  async reload() {
    const asked = this.#asked;
    const moment = this.page.runs.moment;
    const late = (this.#late = new Set());
    const ids = [];
    let next = null;
    do {
      const page = await read(this.#path(Math.min(MOST, Math.max(PAGE, this.ids.length - ids.length)), next));
      page.runs.forEach((run) => this.page.runs.put(run, moment));
      ids.push(...page.runs.map((run) => run.id));
      next = page.next;
    } while (next && ids.length < this.ids.length);
    if (asked !== this.#asked) return;
    this.#problem = null;
    const told = new Set(ids);
    this.#take([...[...late].filter((id) => !told.has(id) && this.page.runs.has(id)).reverse(), ...ids], next);
  }

  has(id) {
    return this.#known.has(id) || this.#arriving.has(id);
  }

  /** Whether a run belongs here now that it has ended. */
  awaits(event) {
    return isEnding(event) && !this.has(event.run_id) && Boolean(this.query.status?.split(',').includes(event.data.status));
  }

  /** The ids of those that a search leaves. */
  get shown() {
    return this.#shown;
  }

  /** Draw anew which of them are selected. */
  mark() {
    this.#markAll();
    this.list.refresh();
  }

  #markAll() {
    const may = this.#shown.filter((id) => this.page.runs.get(id).actions.includes('stop'));
    this.all.checked = may.length > 0 && may.every((id) => this.bulk.has(id));
  }

  /** A run was queued, or is awaited: it goes on top, unless somebody reads further down. */
  arrived(event) {
    if (event.data.parent_id && this.query.parent === 'none') return;
    this.#arrivals.push(event);
    this.#arriving.add(event.run_id);
    this.#meet();
  }

  async #greet() {
    const arrivals = this.#arrivals.splice(0);
    try {
      await this.#learnOf(arrivals);
      arrivals.forEach(({ run_id: id }) => {
        this.#arriving.delete(id);
        if (!this.#consider(id) && !isLive(this.page.runs.get(id)?.status)) this.page.runs.forget(id);
      });
      this.#showWaiting();
    } catch {
      this.#arrivals.push(...arrivals);
      setTimeout(this.#meet, AGAIN_MS);
    }
  }

  // One of them is asked for by name, and so is one that began long ago; a crowd as a page.
  async #learnOf(arrivals) {
    if (arrivals.length > MOST) return this.reload();
    const strange = () => arrivals.filter(({ run_id: id }) => !this.page.runs.isWhole(id));
    const few = strange().length <= FEW;
    if (!few) await this.#readSince(Math.min(...strange().map(({ at }) => seconds(at))), arrivals.length);
    return Promise.all(strange().filter((event) => few || isEnding(event)).map(({ run_id: id }) => this.page.actions.refresh(id)));
  }

  // Newer ones may fill a page meanwhile, so it is read on until one is older (by another second,
  // since a run is told of a little after it was made).
  async #readSince(time, limit) {
    const moment = this.page.runs.moment;
    let after = null;
    do {
      const { runs, next } = await read(this.#path(limit, after));
      runs.forEach((run) => this.page.runs.put(run, moment));
      after = runs.length && seconds(runs.at(-1).created_at) > time - 1 ? next : null;
    } while (after);
  }

  // Returns whether it is in the list.
  #consider(id) {
    const run = this.page.runs.isWhole(id) && this.page.runs.get(id);
    if (this.#known.has(id)) return true;
    if (!run || !this.#matches(run)) return false;
    this.#known.add(id);
    this.#waiting.push(id);
    this.#late.add(id);
    return true;
  }

  /** Ages and durations go on. */
  tick() {
    if (!document.hidden) this.list.refresh();
  }

  stopFocused(target) {
    return target.closest('.row')?.querySelector('stop-button')?.press() ?? false;
  }

  // The server has no filter for it, so the page reads on and leaves out.
  get #sifts() {
    return this.words.length > 0 || this.asking;
  }

  #changed(changed) {
    const gone = [...changed].filter((id) => this.#known.has(id) && !this.page.runs.has(id));
    if (gone.length) this.#take(this.ids.filter((id) => !gone.includes(id)), this.#next);
    if (this.query.status) changed.forEach((id) => this.#consider(id));
    if (this.#sifts && this.#finds(changed)) this.#found();
    if (this.#waiting.length) this.#showWaiting();
    this.list.refresh(changed);
  }

  #path(limit, after) {
    const parameters = new URLSearchParams({ limit, brief: true, ...this.query });
    if (after) parameters.set('after', after);
    return `/runs?${parameters}`;
  }

  #take(ids, next) {
    this.ids = ids;
    this.#next = next;
    this.#known = new Set(ids);
    this.#waiting = [];
    this.#found();
  }

  /** Leave out what the search does not find. */
  sift(ids) {
    if (!this.#sifts) return ids;
    const wanted = ({ id, agent, owner, tags = [], progress, waiting_for }) => {
      if (this.asking && !waiting_for) return false;
      const said = [id, agent, owner, ...tags, progress?.message].join(' ').toLowerCase();
      return this.words.every((word) => said.includes(word));
    };
    return ids.filter((id) => wanted(this.page.runs.get(id)));
  }

  // Whether the search would show one by now that it has left out.
  #finds(changed) {
    const shown = new Set(this.#shown);
    return this.sift([...changed].filter((id) => this.#known.has(id) && !shown.has(id))).length > 0;
  }

  #found() {
    this.#shown = this.sift(this.ids);
    // A column in which nothing would stand is not there.
    const some = (has) => this.ids.some((id) => has(this.page.runs.get(id)));
    this.classList.toggle('owned', some(ownerOf));
    this.classList.toggle('spent', some((run) => run.usage?.cost));
    this.list.ask();
    this.#markAll();
    this.#state();
  }

  async #more(first = false) {
    if (this.#loading || (!first && !this.#next)) return;
    const asked = this.#asked;
    const moment = this.page.runs.moment;
    this.#loading = read(this.#path(this.#sifts ? MOST : PAGE, this.#next));
    this.#problem = null;
    this.#state();
    try {
      const page = await this.#loading;
      if (asked !== this.#asked) return;
      page.runs.forEach((run) => this.page.runs.put(run, moment));
      this.#loading = null;
      this.#append(page);
    } catch (problem) {
      if (asked !== this.#asked) return;
      this.#loading = null;
      this.#problem = problem;
      this.#state();
    }
  }

  #append({ runs, next }) {
    const fresh = runs.map((run) => run.id).filter((id) => !this.#known.has(id));
    fresh.forEach((id) => this.#known.add(id));
    this.ids = this.ids.concat(fresh);
    this.#next = next;
    this.#found();
    // A search goes on until there is a page full of matches, or nothing left.
    if (this.#sifts && next && this.#shown.length < PAGE) this.#more();
  }

  #matches(run) {
    const { status, agent, owner, tag, parent } = this.query;
    return !(run.parent_id && parent === 'none') && (!status || status.split(',').includes(run.status)) && (!agent || run.agent === agent)
      && (!owner || run.owner === owner) && (!tag || run.tags?.includes(tag));
  }

  #showWaiting(jump = false) {
    const reads = window.scrollY > this.offsetTop && !jump;
    if (this.#waiting.length && !reads) {
      this.ids = [...this.#waiting.reverse(), ...this.ids];
      this.#waiting = [];
      this.#found();
    }
    if (jump) window.scrollTo({ top: 0 });
    text(this.fresh.lastChild, `${this.#waiting.length} new`);
    show(this.fresh, this.#waiting.length > 0);
  }

  #state() {
    const empty = this.#shown.length === 0;
    this.table.setAttribute('aria-rowcount', this.#next ? -1 : this.#shown.length + 1);
    show(this.table, !empty);
    this.foot.className = empty ? 'foot state' : 'foot';
    this.foot.replaceChildren(...this.#says(empty));
  }

  #says(empty) {
    if (this.#problem) return [icon('failed'), h('p', {}, `The runs could not be read: ${this.#problem.message}.`), h('button', { type: 'button', onclick: () => this.#more(!this.ids.length) }, 'Try again')];
    if (this.#loading) return empty && !this.#sifts ? skeleton() : [h('p', {}, this.#sifts ? `Searching… ${count(this.ids.length, 'run')} so far` : 'Loading…')];
    if (!empty) return [h('p', {}, this.#next ? `${count(this.#shown.length, 'run')} so far` : `${count(this.#shown.length, 'run')}, and that is all`)];
    const { parent, ...filters } = this.query;
    if (this.#sifts || Object.keys(filters).length) return [icon('search'), h('p', {}, 'No run is like that.'), h('a', { class: 'button', href: '/' }, 'Show all runs')];
    return [icon('brand'), h('p', {}, 'All is quiet. There are no runs yet.'), h('p', { class: 'hint' }, 'Start one here, or with ', h('code', {}, 'quiesce run AGENT --server …'))];
  }
}

const skeleton = () => Array.from({ length: 6 }, () => h('div', { class: 'bone' }));

customElements.define('run-list', RunList);
