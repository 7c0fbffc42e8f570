// One run of the tree: its name, and its bar with what happened to it drawn where it happened.

import './chip.js';
import { attribute, h, icon, s, show, text } from './dom.js';
import { askToStop } from './stop-panel.js';
import { cleanupOf, endOf } from './tree.js';
import { shortId, span, statusWord } from './words.js';

const HEIGHT = 30;
const BAR = { y: 9, height: 12 };
const TICKS = { open: 'open', finished: 'finished', failed: 'failed', cut: 'cut' };

export class TimelineRow {
  constructor(timeline) {
    this.timeline = timeline;
    this.fold = h('button', { type: 'button', class: 'fold', tabindex: -1, onclick: (event) => { event.stopPropagation(); timeline.fold(this.node); } }, icon('chevron'));
    this.mark = h('span', { class: 'mark' });
    this.name = h('a', { class: 'name', tabindex: -1 });
    this.id = h('code');
    this.stop = h('button', { type: 'button', class: 'quiet stop', tabindex: -1, onclick: (event) => { event.stopPropagation(); this.askToStop(); } }, icon('stop'));
    this.svg = s('svg', { height: HEIGHT, 'aria-hidden': 'true' });
    this.length = h('span', { class: 'length num' });
    this.element = h('div', { class: 'branch', role: 'row', tabindex: -1, onclick: () => timeline.choose(this.node.id) },
      h('span', { class: 'label', role: 'gridcell' }, this.fold, this.mark, this.name, this.id, this.stop),
      h('span', { class: 'bar', role: 'gridcell' }, this.svg, this.length));
    this.element.view = this;
  }

  askToStop() {
    const { runs, actions, tree } = this.timeline.page;
    const below = tree.below(this.node).filter((node) => endOf(node) == null).length - 1;
    const run = runs.get(this.node.id);
    if (!run?.actions.includes('stop')) return false;
    askToStop(run, { runs, actions, below: Math.max(0, below) });
    return true;
  }

  show(node, run, scale, now, { chosen, folded }) {
    this.node = node;
    const status = shownStatus(node, run);
    const { element } = this;
    element.style.setProperty('--depth', Math.min(node.depth - this.timeline.depth, 12));
    attribute(element, 'aria-level', node.depth - this.timeline.depth + 1);
    attribute(element, 'aria-expanded', node.children.length ? String(!folded) : null);
    attribute(element, 'aria-selected', String(chosen));
    attribute(element, 'data-status', status);
    attribute(element, 'aria-label', `${node.agent} ${shortId(node.id)}, ${statusWord(status)}`);
    this.fold.classList.toggle('leaf', node.children.length === 0);
    attribute(this.fold, 'aria-label', folded ? 'Show what is below it' : 'Hide what is below it');
    if (this.status !== status) this.mark.replaceChildren(icon(status));
    this.status = status;
    attribute(this.mark, 'title', statusWord(status));
    text(this.name, node.agent);
    attribute(this.name, 'href', `/dashboard/runs/${node.id}`);
    text(this.id, shortId(node.id));
    show(this.stop, run?.actions.includes('stop') && status !== 'stopping');
    attribute(this.stop, 'aria-label', `Stop ${node.agent} ${shortId(node.id)}`);
    this.#draw(node, status, scale, now);
  }

  #draw(node, status, scale, now) {
    const end = endOf(node) ?? now;
    const from = node.spans[0]?.from ?? end;
    attribute(this.svg, 'width', scale.width + 2);
    this.svg.replaceChildren(...spans(node, status, end, scale), ...ticks(node, now, scale), ...marks(node, status, end, scale));
    text(this.length, span(end - from));
    this.length.style.transform = `translateX(${scale.x(end) + 8}px)`;
  }
}

/** No run goes on when the one above it has ended: nothing may seem to move for ever. */
export function shownStatus(node, run) {
  if (node.ended != null) return node.status;
  if (endOf(node) != null) return 'lost';
  return run?.status ?? 'queued';
}

function spans(node, status, end, scale) {
  return pieces(node, status, end).map(({ from, to, kind }) => {
    const x = scale.x(from);
    const width = Math.max(scale.x(to) - x, 1.5);
    return s('rect', { class: `span ${kind}`, x, width, ...BAR, rx: 2 });
  });
}

function pieces(node, status, end) {
  const found = node.spans.map((span, n) => ({ from: span.from, to: node.spans[n + 1]?.from ?? end, kind: span.status }));
  const last = found.at(-1);
  if (!last) return [];
  // The whole life of what has ended has its colour; a stop shows its own two parts.
  if (node.ended != null || status === 'lost') found.forEach((piece) => ['running'].includes(piece.kind) && (piece.kind = `ran ${status}`));
  const cleanup = node.stop && cleanupOf(node);
  if (last.kind === 'stopping' && cleanup != null && cleanup < end) {
    last.to = Math.max(cleanup, last.from);
    found.push({ from: last.to, to: end, kind: 'cleanup' });
  }
  return found;
}

// One path for each kind: a run may have had thousands of them.
function ticks(node, now, scale) {
  const paths = {};
  const drawn = {};
  for (const operation of node.operations) {
    const x = scale.x(operation.from);
    const width = Math.max(1, scale.x(operation.to ?? now) - x);
    const kind = TICKS[operation.how];
    // What falls on the same pixels as the one before would not be seen.
    if (x + width <= (drawn[kind] ?? -1) + 0.5) continue;
    drawn[kind] = x + width;
    paths[kind] = `${paths[kind] ?? ''}M${x.toFixed(1)} 16h${Math.max(0.8, width - 0.8).toFixed(1)}v3h-${Math.max(0.8, width - 0.8).toFixed(1)}z`;
  }
  return Object.entries(paths).map(([kind, d]) => s('path', { class: `tick ${kind}`, d }));
}

function marks(node, status, end, scale) {
  const found = [];
  const title = (says) => s('title', {}, says);
  if (node.stop) {
    const x = scale.x(node.stop.at);
    found.push(s('path', { class: 'asked', d: `M${x} 4v22` }), s('rect', { class: 'asked', x: x - 3.5, y: 1.5, width: 7, height: 7, rx: 1.5 }, title(`Stop asked for: ${node.stop.mode}`)));
  }
  for (const rung of node.rungs) {
    const x = scale.x(rung.at);
    found.push(s('path', { class: 'rung', d: `M${x} 21l-4.5 7h9z` }, title(`Goes up to ${rung.mode}, by ${rung.by}: ${rung.reason}`)));
  }
  if (endOf(node) != null) found.push(s('path', { class: `close ${status}`, d: `M${scale.x(end)} 6v18` }, title(`Closed: ${statusWord(status)}`)));
  return found;
}
