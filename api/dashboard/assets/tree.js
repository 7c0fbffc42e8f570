// A tree of runs as its events tell it: when each began and ended, what it did, how it was stopped.
// Times are seconds since 1970, as the server's clock had them.

import { isEnding } from './reduce.js';
import { seconds } from './words.js';

// Shorter pauses are part of ordinary work.
const IDLE_S = 10;

export class Tree {
  nodes = new Map();
  events = [];
  /** Long stretches in which nothing was in flight and nothing happened: `{ from, to }`. */
  idle = [];
  last = 0;
  /** The names of the root's durable steps. */
  steps = [];
  /** Grows when a run has come, so when the rows are other ones. */
  shape = 0;
  #open = 0;

  /** Take the next event. Returns false for one that was taken before. */
  take(event) {
    if (event.seq <= this.last) return false;
    const at = seconds(event.at);
    this.#noteIdle(at);
    this.last = event.seq;
    this.events.push(event);
    const node = this.nodes.get(event.run_id) ?? this.#join(event, at);
    this.#open -= node.open.size;
    HANDLERS[event.type]?.(node, event.data, at, event.seq);
    if (event.type === 'step.finished' && event.run_id === event.root_id) this.steps.push(event.data.name);
    if (isEnding(event)) end(node, event.data, at);
    this.#open += node.open.size;
    return true;
  }

  get top() {
    return this.nodes.values().next().value;
  }

  get began() {
    return this.events.length ? seconds(this.events[0].at) : null;
  }

  /** The time of the last event. */
  get told() {
    return this.events.length ? seconds(this.events.at(-1).at) : null;
  }

  get isIdle() {
    return this.#open === 0;
  }

  /** The node and all below it, parents before children. */
  below(node) {
    const found = [node];
    for (const each of found) found.push(...each.children);
    return found;
  }

  /** The event that is shown for a number, or the last one before it. */
  indexOf(seq) {
    let [low, high] = [0, this.events.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.events[middle].seq <= seq) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  #join(event, at) {
    const parent = this.nodes.get(event.data.parent_id) ?? null;
    const node = {
      id: event.run_id, agent: event.data.agent ?? 'agent', parent, depth: parent ? parent.depth + 1 : 0, children: [],
      spans: [], ended: null, operations: [], open: new Map(), stop: null, rungs: [], questions: new Map(),
      starts: [], partials: 0, files: 0, picture: null, quiet: at,
    };
    parent?.children.push(node);
    this.nodes.set(node.id, node);
    this.shape++;
    return node;
  }

  #noteIdle(at) {
    const before = this.told;
    if (before != null && this.#open === 0 && at - before > IDLE_S) this.idle.push({ from: before, to: at });
  }
}

const become = (status) => (node, data, at) => node.spans.push({ status, from: at });

const HANDLERS = {
  'run.queued': become('queued'),
  'run.started': (node, data, at) => {
    node.starts.push({ attempt: data.attempt, at });
    node.open.clear();
    become('running')(node, data, at);
  },
  'run.pausing': become('pausing'),
  'run.paused': become('paused'),
  'run.resumed': become('running'),
  'run.stopping': (node, data, at) => {
    node.stop = { ...data, at };
    node.questions.clear();
    become('stopping')(node, data, at);
  },
  'run.escalated': (node, data, at) => node.rungs.push({ ...data, at }),
  'run.asked': (node, data) => node.questions.set(data.question_id, data),
  'run.answered': (node, data) => node.questions.delete(data.question_id),
  'run.withdrawn': (node, data) => node.questions.delete(data.question_id),
  'run.partial': (node) => node.partials++,
  'run.artifact': (node, { name }, at, seq) => {
    node.files++;
    // Of a run and all below it the latest counts.
    if (name === 'view') for (let each = node; each; each = each.parent) each.picture = { id: node.id, seq };
  },
  'operation.started': (node, data, at) => {
    const operation = { ...data, from: at, to: null, how: 'open' };
    node.open.set(data.operation, operation);
    node.operations.push(operation);
  },
  'operation.finished': (node, data, at) => close(node, data, at, data.error ? 'failed' : 'finished'),
  'operation.cut': (node, data, at) => close(node, data, at, 'cut'),
};

function close(node, data, at, how) {
  const operation = node.open.get(data.operation);
  node.open.delete(data.operation);
  node.quiet = at;
  if (operation) Object.assign(operation, { to: at, how });
}

function end(node, data, at) {
  node.ended = at;
  node.status = data.status;
  node.questions.clear();
  // What has no end of its own has ended with its run.
  for (const operation of node.open.values()) Object.assign(operation, { to: at, how: 'cut' });
  node.open.clear();
}

/** When a run ended; with the one above it at the latest, whatever is known of it. */
export function endOf(node) {
  if (node.ended != null) return node.ended;
  return node.parent ? endOf(node.parent) : null;
}

/** Since when a stopping run has been cleaning up; null while something of it is still in flight. */
export function cleanupOf(node) {
  if (!node.stop || node.open.size) return null;
  const ends = node.children.map(endOf);
  return ends.includes(null) ? null : Math.max(node.stop.at, node.quiet, ...ends);
}
