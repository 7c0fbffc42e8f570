// What is known of runs. Three layers, the later ones on top: what the server said when it was
// asked, what events have said since, and what this page has asked for and has no answer to yet.

import { reduce } from './reduce.js';
import { LIVE } from './words.js';

// A stop and an end are permanent: whatever comes late and says otherwise is out of date.
const rank = (status) => (status === 'stopping' ? 1 : LIVE.includes(status) ? 0 : 2);

export class Runs {
  #entries = new Map();
  #watchers = new Set();
  #changed = new Set();
  #clock = 0;
  #told = true;
  #moves;
  /** The run whose rights hold for those below it, of which only events have told. */
  above = null;
  /** Whether the person may act on a run that the server has told of; nobody until that is known. */
  #mayAct = () => false;
  #certain = false;

  /** `moves` says what may be asked of a run in each status; see `available_actions` of the API. */
  constructor(moves) {
    this.#moves = moves;
    // The frame that was asked for does not come any more once the page is hidden.
    document.addEventListener('visibilitychange', () => document.hidden && this.#flush());
  }

  set mayAct(mayAct) {
    this.#mayAct = mayAct;
    this.#entries.forEach((entry) => this.#dirty(entry));
  }

  /** While what is known may be out of date nothing is offered but the stop, which is always safe. */
  set certain(certain) {
    if (certain === this.#certain) return;
    this.#certain = certain;
    this.#entries.forEach((entry) => this.#dirty(entry));
  }

  get certain() {
    return this.#certain;
  }

  /** The moment to remember before one asks the server, and to hand to `put` with its answer. */
  get moment() {
    return ++this.#clock;
  }

  get(id) {
    const entry = this.#entries.get(id);
    if (!entry) return undefined;
    entry.seen ??= this.#merge(entry);
    return entry.seen;
  }

  has(id) {
    return this.#entries.has(id);
  }

  /** Whether the server has told all of it, rather than events some of it. */
  isWhole(id) {
    return Boolean(this.#entries.get(id)?.told);
  }

  all() {
    return [...this.#entries.keys()].map((id) => this.get(id));
  }

  /** Take what the server says of a run, asked for at `moment`. */
  put(record, moment = this.moment) {
    const entry = this.#entry(record.id);
    // Answers overtake each other as well: what was asked for later is newer.
    if (moment < entry.asked) return;
    const known = entry.told || entry.since.status ? this.#decided(entry).status : null;
    const late = known && rank(record.status) < rank(known);
    if (late && entry.told) return;
    // What is late says all the rest of a run of which only events have told.
    entry.told = late ? { ...record, ...entry.since } : record;
    entry.asked = moment;
    // Events that came after it was asked may be newer than the answer.
    if (entry.touched <= moment) entry.since = {};
    else if (rank(record.status) > rank(entry.since.status ?? 'queued')) entry.since = {};
    this.#dirty(entry);
  }

  /** Take an event of a run's. Of a run that nobody has asked for only the first says enough. */
  apply(event) {
    if (!this.has(event.run_id) && event.type !== 'run.queued') return;
    const entry = this.#entry(event.run_id);
    const decided = this.#decided(entry);
    const change = reduce(decided, event);
    if (!change || (change.status && rank(change.status) < rank(decided.status ?? 'queued'))) return;
    this.amend(event.run_id, change);
  }

  /** Take something of a run's that was asked for by itself. */
  amend(id, change) {
    const entry = this.#entry(id);
    entry.touched = ++this.#clock;
    entry.since = { ...entry.since, ...change };
    this.#dirty(entry);
  }

  /** Show a change that was asked for and is not known yet. Returns what takes it back. */
  expect(id, change) {
    const entry = this.#entry(id);
    const wish = { change };
    entry.wishes.push(wish);
    this.#dirty(entry);
    return () => {
      entry.wishes = entry.wishes.filter((each) => each !== wish);
      this.#dirty(entry);
    };
  }

  forget(id) {
    this.#entries.delete(id);
    this.#changed.add(id);
    this.#tell();
  }

  /** Call `watcher` with the set of ids that have changed, at most once a frame. */
  watch(watcher) {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  #entry(id) {
    let entry = this.#entries.get(id);
    if (!entry) this.#entries.set(id, (entry = { id, told: null, since: {}, wishes: [], touched: 0, asked: 0 }));
    return entry;
  }

  #decided(entry) {
    return { id: entry.id, ...entry.told, ...entry.since };
  }

  #merge(entry) {
    const run = this.#decided(entry);
    const wishes = entry.wishes.filter(({ change }) => !change.status || rank(change.status) >= rank(run.status ?? 'queued'));
    const pending = wishes.length > 0;
    return { ...run, ...Object.assign({}, ...wishes.map(({ change }) => change)), pending, actions: this.#actions(entry, run, pending) };
  }

  #actions(entry, run, pending) {
    const told = entry.told ?? this.#entries.get(this.above)?.told;
    if (!told || pending || !this.#mayAct(told)) return [];
    // What the server says knows more than the status, as long as that is the same.
    const possible = entry.told && !('status' in entry.since) ? told.available_actions : this.#moves[run.status];
    const asked = run.waiting_for && run.status !== 'stopping';
    const all = [...possible.filter((action) => action !== 'answer'), ...(asked ? ['answer'] : [])];
    return this.#certain ? all : all.filter((action) => action === 'stop');
  }

  #dirty(entry) {
    entry.seen = null;
    this.#changed.add(entry.id);
    this.#tell();
  }

  #tell() {
    if (!this.#told) return;
    this.#told = false;
    // A hidden page has no frames, but its title should be right.
    if (document.hidden) setTimeout(() => this.#flush(), 250);
    else requestAnimationFrame(() => this.#flush());
  }

  #flush() {
    const changed = this.#changed;
    this.#changed = new Set();
    this.#told = true;
    if (changed.size) this.#watchers.forEach((watcher) => watcher(changed));
  }
}
