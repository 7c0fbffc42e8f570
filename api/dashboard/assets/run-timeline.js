// The tree of a run as a timeline: a row for each run in it, all on one scale.

import { now } from './api.js';
import { address, attribute, fill, h, icon, s, show, text } from './dom.js';
import { TimelineRow, shownStatus } from './timeline-row.js';
import { makeScale, offset } from './timescale.js';
import { endOf } from './tree.js';
import { VirtualRows } from './virtual.js';
import { count, isLive, wholeSpan } from './words.js';

// A larger tree is drawn when somebody wants it: the log and the stop come first.
const MANY = 2_000;
const FOR_LENGTH = 64; // pixels, at the end of the longest bar
const SIEVES = { all: 'All', live: 'Live', trouble: 'Not succeeded' };

class RunTimeline extends HTMLElement {
  #shape = '';
  #rows = [];
  #folded = new Set();
  #range = null;
  depth = 0;

  open(page) {
    this.page = page;
    this.wanted = false;
    this.sieve = h('select', { 'aria-label': 'Which runs of the tree', onchange: () => this.#sift() }, Object.entries(SIEVES).map(([value, says]) => h('option', { value }, says)));
    this.short = h('input', { type: 'checkbox', checked: true, onchange: () => this.show(this.run, page) });
    this.idle = h('label', { class: 'check hint', hidden: true }, this.short, 'shorten idle time');
    this.fit = h('button', { type: 'button', class: 'quiet', onclick: () => this.#zoom(null) }, 'Fit');
    this.heading = h('h2', {}, 'Timeline');
    this.axis = s('svg', { class: 'axis', height: 24, 'aria-hidden': 'true' });
    this.cursor = h('div', { class: 'cursor', hidden: true });
    this.rows = h('div', { class: 'rows', role: 'rowgroup' });
    this.box = h('div', { class: 'tree', role: 'treegrid', 'aria-label': 'Runs of this tree', onkeydown: (event) => this.#key(event) },
      (this.line = h('div', { class: 'scale', role: 'presentation' }, this.axis, this.cursor)), this.rows);
    this.gate = h('div', { class: 'state', hidden: true }, h('p'), h('button', { type: 'button', onclick: () => this.#want() }, 'Draw it'));
    const zoom = (factor, says) => h('button', { type: 'button', class: 'quiet', 'aria-label': says, title: says, onclick: () => this.#zoomBy(factor) }, factor < 1 ? '+' : '–');
    this.append(h('section', { class: 'card flush', 'aria-label': 'Timeline' },
      h('div', { class: 'bar-of-card' }, this.heading, this.idle, this.sieve, zoom(0.5, 'Closer'), zoom(2, 'Further away'), this.fit), this.gate, this.box, (this.legend = h('ul', { class: 'legend' }))));
    this.list = new VirtualRows(this.rows, {
      scroller: this.box, keys: () => this.#rows, make: () => new TimelineRow(this).element,
      update: (row, node) => this.#update(row, node),
    });
    this.axis.addEventListener('pointerdown', (event) => this.#drag(event));
    this.#readAddress();
    new ResizeObserver(() => this.run && this.isConnected && this.show(this.run, page)).observe(this.box);
  }

  show(run, page) {
    this.run = run;
    const { tree } = page;
    show(this, page.caughtUp && tree.nodes.size > 0);
    if (this.hidden) return;
    const shape = `${tree.shape} ${this.sieve.value} ${this.sieve.value === 'all' ? '' : this.#alive()}`;
    if (shape !== this.#shape) this.#arrange(shape);
    this.#gate(tree);
    this.#scale(tree);
    this.#redraw();
  }

  // The one row that is chosen, or else the first, is where Tab leads; the arrow keys lead on.
  #redraw() {
    this.chosen = address.get('node');
    this.entry = this.#rows.find((node) => node.id === this.chosen) ?? this.#rows[0];
    this.list.refresh();
  }

  /** Choose a run of the tree: the log then shows what it said. */
  choose(id) {
    address.set({ node: address.get('node') === id ? null : id });
    this.#redraw();
    this.dispatchEvent(new Event('chosen', { bubbles: true }));
  }

  fold(node) {
    this.#folded[this.#folded.has(node) ? 'delete' : 'add'](node);
    this.#shape = '';
    this.show(this.run, this.page);
  }

  stopFocused() {
    return document.activeElement?.closest('.branch')?.view.askToStop() ?? false;
  }

  #alive() {
    return [...this.page.tree.nodes.values()].filter((node) => endOf(node) == null).length;
  }

  #arrange(shape) {
    this.#shape = shape;
    this.#rows = [];
    const { tree, runs } = this.page;
    const wanted = (node) => {
      const status = shownStatus(node, runs.get(node.id));
      return this.sieve.value === 'all' || (this.sieve.value === 'live' ? isLive(status) : !isLive(status) && status !== 'succeeded');
    };
    const walk = (node) => {
      if (wanted(node)) this.#rows.push(node);
      if (!this.#folded.has(node)) node.children.forEach(walk);
    };
    this.depth = tree.top.depth;
    walk(tree.top);
    this.list.ask();
    text(this.heading, tree.nodes.size === 1 ? 'Timeline' : `Timeline of ${count(tree.nodes.size, 'run')}`);
    show(this.sieve, tree.nodes.size > 1);
    attribute(this.box, 'aria-rowcount', this.#rows.length);
  }

  #gate(tree) {
    const closed = tree.nodes.size > MANY && !this.wanted;
    show(this.gate, closed);
    show(this.box, !closed);
    text(this.gate.firstChild, `This tree has ${count(tree.nodes.size, 'run')}.`);
  }

  #sift() {
    address.set({ tree: this.sieve.value === 'all' ? null : this.sieve.value });
    this.show(this.run, this.page);
  }

  #want() {
    this.wanted = true;
    this.show(this.run, this.page);
  }

  #scale(tree) {
    if (this.fromTo) this.#range = this.fromTo.map((each) => tree.began + each);
    this.fromTo = null;
    const end = endOf(tree.top);
    this.now = end ?? Math.max(now(), tree.told);
    const [from, to] = this.#range ?? [tree.began, this.now];
    const idle = end == null && tree.isIdle ? [...tree.idle, { from: tree.told, to: this.now }] : tree.idle;
    const width = Math.max(80, this.line.clientWidth - parseFloat(getComputedStyle(this.line).paddingLeft) - FOR_LENGTH);
    this.scale = makeScale({ from, to, width, idle: this.short.checked ? idle : [] });
    show(this.idle, this.scale.cuts.length > 0 || !this.short.checked);
    show(this.fit, this.#range != null);
    this.#drawAxis();
    this.#explain(tree);
  }

  // Only what is drawn is explained.
  #explain(tree) {
    const nodes = [...tree.nodes.values()];
    const has = { paused: nodes.some((node) => node.spans.some((each) => each.status === 'paused')), stop: nodes.some((node) => node.stop), rung: nodes.some((node) => node.rungs.length) };
    fill(this.legend, JSON.stringify(has), () => legend(has));
  }

  #drawAxis() {
    const { axis, scale } = this;
    attribute(axis, 'width', scale.width);
    const zero = scale.from - this.page.tree.began;
    axis.replaceChildren(
      ...scale.cuts.map((cut) => s('g', { class: 'cut' }, s('rect', { x: cut.at, y: 0, width: cut.width, height: 24 }), s('text', { x: cut.at + cut.width / 2, y: 16, 'text-anchor': 'middle' }, cut.width > 70 ? `${wholeSpan(cut.to - cut.from)} idle` : '⋯', s('title', {}, `${wholeSpan(cut.to - cut.from)} idle`)))),
      ...scale.marks().map(({ at, after }) => s('g', {}, s('path', { d: `M${at} 18v6` }), s('text', { x: at + 3, y: 14 }, offset(zero + after)))));
    const event = this.page.tree.events[this.page.tree.indexOf(Number(address.get('event')))];
    show(this.cursor, Boolean(event && address.get('event')));
    if (!this.cursor.hidden) this.cursor.style.transform = `translateX(${scale.x(Date.parse(event.at) / 1000)}px)`;
  }

  #update(row, node) {
    if (!this.scale) return;
    row.view.show(node, this.page.runs.get(node.id), this.scale, this.now, { chosen: this.chosen === node.id, folded: this.#folded.has(node) });
    if (node === this.entry) row.tabIndex = 0;
    else if (row !== document.activeElement) row.tabIndex = -1;
  }

  #key(event) {
    const row = event.target.closest('.branch');
    if (!row || event.target !== row) return;
    const { node } = row.view;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) this.#go(this.#rows.indexOf(node) + step);
    else if (event.key === 'ArrowRight' && this.#folded.has(node)) this.fold(node);
    else if (event.key === 'ArrowLeft' && node.children.length && !this.#folded.has(node)) this.fold(node);
    else if (event.key === 'ArrowLeft' && node.parent) this.#go(this.#rows.indexOf(node.parent));
    else if (event.key === 'Enter') this.choose(node.id);
    else return;
    event.preventDefault();
  }

  #go(index) {
    if (!this.#rows[index]) return;
    let row = this.list.row(this.#rows[index]);
    const box = this.box.getBoundingClientRect();
    const at = row?.getBoundingClientRect();
    if (!at || at.top < box.top + 30 || at.bottom > box.bottom) this.list.reveal(index);
    row = this.list.row(this.#rows[index]);
    row.tabIndex = 0;
    row.focus({ preventScroll: true });
  }

  #readAddress() {
    const [from, to] = [address.get('from'), address.get('to')].map((value) => (value == null ? NaN : Number(value)));
    this.fromTo = to > from ? [from, to] : null;
    this.sieve.value = address.get('tree') in SIEVES ? address.get('tree') : 'all';
  }

  #zoomBy(factor) {
    const { from, to } = this.scale;
    const middle = (from + to) / 2;
    const half = ((to - from) * factor) / 2;
    this.#zoom([middle - half, middle + half]);
  }

  #zoom(range) {
    const { began } = this.page.tree;
    this.#range = range && [Math.max(began, range[0]), Math.min(this.now, range[1])];
    if (this.#range && this.#range[0] <= began && this.#range[1] >= this.now) this.#range = null;
    const [from, to] = this.#range?.map((time) => (time - began).toFixed(3)) ?? [null, null];
    address.set({ from, to });
    this.show(this.run, this.page);
  }

  // Dragging along the axis shows that stretch of time.
  #drag(event) {
    const left = this.axis.getBoundingClientRect().left;
    const begin = event.clientX - left;
    const { scale } = this;
    this.axis.setPointerCapture(event.pointerId);
    this.axis.addEventListener('pointerup', (up) => {
      const end = up.clientX - left;
      if (Math.abs(end - begin) > 6) this.#zoom([scale.time(Math.min(begin, end)), scale.time(Math.max(begin, end))]);
    }, { once: true });
  }
}

function legend({ paused, stop, rung }) {
  const item = (kind, says) => h('li', {}, s('svg', { width: 18, height: 12, 'aria-hidden': 'true' }, s('rect', { class: `span ${kind}`, x: 0, y: 1, width: 18, height: 10, rx: 2 })), says);
  const mark = (d, kind, says) => h('li', {}, s('svg', { width: 14, height: 14, 'aria-hidden': 'true' }, s('path', { class: kind, d })), says);
  return [
    item('running', 'at work'), mark('M1 6h12v3h-12z', 'tick', 'operation'), paused && item('paused', 'paused'),
    stop && mark('M3 3h8v8h-8z', 'asked', 'stop asked for'), stop && item('stopping', 'in flight, may finish'), rung && mark('M7 2l-5 9h10z', 'rung', 'goes up a rung'),
    stop && item('cleanup', 'cleaning up'), mark('M7 0v14', 'close', 'closed'),
  ];
}

customElements.define('run-timeline', RunTimeline);
