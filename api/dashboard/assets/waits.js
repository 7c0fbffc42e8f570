// What a run that is being stopped waits for, and until when at the latest.

import { cleanupOf, endOf } from './tree.js';
import { count, seconds } from './words.js';

const NAMES = { llm: 'LLM call', http: 'request', data: 'data access', command: 'command' };
const CONNECTED = ['llm', 'http'];
const HOLDING = { critical: (label) => `until its critical section ${label} is over`, compensation: (label) => `while ${label} undoes what was done` };

/**
 * tree: of the run. run: as the store has it. tasks: its await stack, if that was read.
 * Returns `{ words, until }`; `until` is null where no time is known.
 */
export function waitsFor(tree, run, now, tasks = []) {
  const node = tree.nodes.get(run.id);
  if (!node?.stop) return { words: '', until: null };
  const held = holding(tasks);
  if (held) return { words: held, until: null };
  const flight = tree.below(node).flatMap((each) => [...each.open.values()]);
  if (flight.length) return inFlight(flight, run.stop?.mode ?? node.stop.mode, graceEnd(node, run.stop));
  const live = tree.below(node).filter((each) => each !== node && endOf(each) == null);
  if (live.length) return { words: `until ${count(live.length, 'sub-agent has', 'sub-agents have')} ended`, until: null };
  return cleaning(node, run, now, tasks);
}

function holding(tasks) {
  for (const { operation } of tasks) {
    const [kind, ...label] = (operation ?? '').split(' ');
    if (HOLDING[kind]) return HOLDING[kind](label.join(' '));
  }
  return null;
}

function inFlight(flight, mode, until) {
  const kinds = new Set(flight.map(({ kind }) => kind));
  const name = kinds.size === 1 ? (NAMES[flight[0].kind] ?? flight[0].kind) : 'operation';
  if (mode !== 'graceful') {
    const sockets = flight.filter(({ kind }) => CONNECTED.includes(kind)).length;
    return { words: sockets ? `closing ${count(sockets, 'connection')}` : `cutting ${count(flight.length, name)}`, until: null };
  }
  return { words: flight.length === 1 ? `after the current ${name} completes` : `after ${flight.length} ${name}s in flight complete`, until };
}

/** When the grace is over: later requests can only shorten it. */
export function graceEnd(node, stop) {
  const later = (stop?.also ?? []).map((each) => seconds(each.requested_at) + each.grace_s);
  return Math.min(node.stop.at + node.stop.grace_s, ...later);
}

function cleaning(node, run, now, tasks) {
  const since = cleanupOf(node);
  const limit = run.options?.cleanup_s ?? 5;
  const own = tasks.flatMap(({ frames }) => frames.slice(-1)).at(-1);
  if (since == null || now - since < limit + 0.5) return { words: 'cleaning up', until: since == null ? null : since + limit };
  return { words: own ? `its code does not exit: it stands at ${own.file.split('/').at(-1)}:${own.line}` : 'its cleanup takes longer than it may', until: null };
}
