// What the events of a run say, line by line; as many lines as there are.

import { address, attribute, fill, h, icon, linkify, show, text } from './dom.js';
import { jsonView } from './json-view.js';
import { VirtualRows } from './virtual.js';
import { clockExact, count, describe, FAMILIES, familyOf, isLive, seconds, shortId } from './words.js';

class RunLog extends HTMLElement {
  #taken = 0;
  #shown = [];
  #follows = true;
  #unread = 0;
  #revealed = null;
  #top = 0;
  // A hand has begun to scroll up, and the lines still stand at their end.
  #leaves = false;

  open(page) {
    this.page = page;
    const boxes = Object.entries(FAMILIES).map(([name, says]) => h('label', { class: 'check' }, h('input', { type: 'checkbox', value: name, onchange: () => this.#chooseFamilies() }), says));
    this.find = h('input', { type: 'search', placeholder: 'Find in the log', 'aria-label': 'Find in the log', oninput: () => this.#sift({ find: this.find.value }) });
    this.families = h('details', { class: 'menu' }, h('summary', { class: 'button' }, 'Show', icon('chevron')), h('div', { class: 'sheet' }, boxes));
    this.node = h('button', { type: 'button', class: 'tag', hidden: true, onclick: () => this.#sift({ node: null }) });
    this.follow = h('button', { type: 'button', class: 'quiet', onclick: () => this.#toEnd() }, icon('down'), h('span'));
    this.rows = h('div', { class: 'rows', role: 'rowgroup' });
    this.box = h('div', { class: 'log', role: 'grid', tabindex: 0, 'aria-label': 'Log', onkeydown: (event) => this.#key(event) }, this.rows);
    this.none = h('p', { class: 'hint nothing' });
    this.detail = h('div', { class: 'detail', hidden: true });
    this.append(h('section', { class: 'card flush', 'aria-label': 'Log' }, h('div', { class: 'bar-of-card' }, h('h2', {}, 'Log'), this.node, this.find, this.families, this.follow), this.box, this.none, this.detail));
    this.list = new VirtualRows(this.rows, { scroller: this.box, keys: () => this.#shown, make: () => line(this), update: (row, event) => this.#update(row, event) });
    this.box.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    this.box.addEventListener('wheel', (event) => event.deltaY < 0 && this.#stay(), { passive: true });
    this.box.addEventListener('touchmove', () => this.#stay(), { passive: true });
    document.addEventListener('chosen', () => this.#sift({}));
    window.addEventListener('popstate', () => this.#sift({}));
    this.#readAddress();
  }

  show(run, { tree }) {
    this.run = run;
    const before = this.#shown.length;
    this.#take(tree.events);
    const fresh = this.#shown.length - before;
    if (fresh && !this.#follows) this.#unread += fresh;
    this.#state();
    if (this.#wanted()) this.#reveal();
    else if (fresh) this.#follow();
  }

  #follow() {
    this.list.draw();
    if (!this.#follows || this.#selects()) return;
    this.box.scrollTop = this.box.scrollHeight;
    this.list.draw();
  }

  choose(event) {
    address.set({ event: address.get('event') === String(event.seq) ? null : event.seq });
    this.chosen = this.#revealed = address.get('event');
    this.list.refresh();
    this.#state();
  }

  // Only what is new is looked at: there may be very many.
  #take(events) {
    for (; this.#taken < events.length; this.#taken++) if (this.#fits(events[this.#taken])) this.#shown.push(events[this.#taken]);
  }

  #fits(event) {
    if (this.only && !this.#isBelow(this.page.tree.nodes.get(event.run_id))) return false;
    if (this.kinds && !this.kinds.has(familyOf(event))) return false;
    return !this.word || `${event.type} ${describe(event)}`.toLowerCase().includes(this.word);
  }

  // Asked anew for each event: what is below a run comes while one looks.
  #isBelow(node) {
    return Boolean(node) && (node.id === this.only || this.#isBelow(node.parent));
  }

  #sift(changes) {
    address.set(changes);
    this.#readAddress();
    this.#taken = 0;
    this.#shown = [];
    this.#unread = 0;
    this.#follows = true;
    if (this.run) this.show(this.run, this.page);
  }

  #readAddress() {
    const { node, find = '', log, event } = address.all();
    this.chosen = event;
    const rest = new URLSearchParams(location.search);
    rest.delete('event');
    this.base = rest.size ? `?${rest}&event=` : '?event=';
    this.only = node;
    this.kinds = log ? new Set(log.split(',')) : null;
    this.word = find.toLowerCase();
    if (this.find !== document.activeElement) this.find.value = find;
    for (const box of this.families.querySelectorAll('input')) box.checked = !this.kinds || this.kinds.has(box.value);
    show(this.node, Boolean(node));
    attribute(this.node, 'aria-label', 'Show the log of all runs of the tree');
  }

  #chooseFamilies() {
    const boxes = [...this.families.querySelectorAll('input')];
    const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
    this.#sift({ log: chosen.length === boxes.length ? null : chosen.join(',') || 'none' });
  }

  #wanted() {
    const seq = address.get('event');
    return seq != null && seq !== this.#revealed && this.page.caughtUp;
  }

  #reveal() {
    this.#revealed = address.get('event');
    const index = this.#shown.findLastIndex((event) => event.seq <= Number(this.#revealed));
    this.#follows = false;
    this.list.reveal(index);
  }

  #selects() {
    const selection = document.getSelection();
    return !selection.isCollapsed && this.box.contains(selection.anchorNode);
  }

  // Only a person scrolls up; what comes in moves the end away, and that is no wish to stay.
  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.box;
    const atEnd = scrollHeight - scrollTop - clientHeight < 4;
    this.#leaves &&= atEnd;
    if (scrollTop < this.#top - 1) this.#follows = false;
    else if (atEnd && !this.#leaves) this.#follows = true;
    this.#top = scrollTop;
    if (this.#follows) this.#unread = 0;
    this.#state();
  }

  // Said before anything has scrolled: what comes in must not win against the hand.
  #stay() {
    this.#leaves = this.box.scrollTop > 0;
    if (this.#leaves) this.#follows = false;
  }

  #toEnd() {
    this.#follows = true;
    this.#unread = 0;
    this.box.scrollTop = this.box.scrollHeight;
    this.#state();
  }

  #key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || event.target !== this.box) return;
    event.preventDefault();
    const at = this.#shown.findIndex((each) => String(each.seq) === address.get('event'));
    const next = at < 0 ? this.#shown.length - 1 : Math.max(0, Math.min(this.#shown.length - 1, at + step));
    if (next < 0 || next === at) return;
    this.#follows = false;
    this.choose(this.#shown[next]);
    const top = next * this.list.height;
    if (top < this.box.scrollTop || top + this.list.height > this.box.scrollTop + this.box.clientHeight) this.list.reveal(next);
    attribute(this.box, 'aria-activedescendant', `event-${this.#shown[next].seq}`);
  }

  #update(row, event) {
    attribute(row, 'aria-selected', String(this.chosen === String(event.seq)));
    if (row.shows === event) return;
    row.shows = event;
    row.id = `event-${event.seq}`;
    const [time, who, what] = row.children;
    text(time.firstChild, clockExact(event.at));
    attribute(time.firstChild, 'href', this.base + event.seq);
    text(who, this.page.tree.nodes.get(event.run_id)?.agent);
    row.dataset.type = event.type;
    row.dataset.family = familyOf(event);
    row.dataset.level = event.type === 'run.log' ? event.data.level : event.data.error ? 'error' : '';
    text(what.firstChild, event.type.replace('run.', '').replace('operation.', ''));
    text(what.lastChild, describe(event));
  }

  #state() {
    const live = this.run && isLive(this.run.status);
    text(this.follow.lastChild, this.#unread ? `${this.#unread} new` : this.#follows && live ? 'Following' : 'To the end');
    this.follow.classList.toggle('on', this.#follows && live);
    const total = this.page.tree.events.length;
    const said = !this.page.caughtUp ? `Reading… ${count(total, 'event')}` : this.#shown.length ? '' : total ? 'Nothing in the log is like that.' : 'Nothing has happened yet.';
    text(this.none, said);
    show(this.none, Boolean(said));
    show(this.box, this.#shown.length > 0);
    const only = this.page.tree.nodes.get(this.only);
    fill(this.node, only?.id, () => [only ? `${only.agent} ${shortId(only.id)}` : '', icon('close')]);
    this.families.closest('section').classList.toggle('single', this.page.tree.nodes.size < 2);
    this.#showDetail();
  }

  #showDetail() {
    const event = address.get('event') && this.page.tree.events[this.page.tree.indexOf(Number(address.get('event')))];
    show(this.detail, Boolean(event));
    if (!event) return;
    fill(this.detail, event.seq, () => [
      h('div', { class: 'bar-of-card' }, h('h3', {}, event.type), h('span', { class: 'hint num' }, `#${event.seq}, ${clockExact(event.at)}, ${offset(event, this.page.tree)}`),
        h('a', { class: 'hint', href: `/dashboard/runs/${event.run_id}` }, event.run_id),
        h('button', { type: 'button', class: 'quiet', 'aria-label': 'Close', onclick: () => this.choose(event) }, icon('close'))),
      h('p', { class: 'said' }, linkify(describe(event))), jsonView(event.data)]);
  }
}

const offset = (event, tree) => `${(seconds(event.at) - tree.began).toFixed(3)} s after the beginning`;

function line(log) {
  const row = h('div', { class: 'line', role: 'row', onclick: (event) => {
    if (event.ctrlKey || event.metaKey || !document.getSelection().isCollapsed) return;
    event.preventDefault();
    log.choose(row.shows);
  } }, h('span', { class: 'time num', role: 'gridcell' }, h('a', { tabindex: -1 })), h('span', { class: 'who', role: 'gridcell' }), h('span', { class: 'what', role: 'gridcell' }, h('b'), h('span')));
  return row;
}

customElements.define('run-log', RunLog);
