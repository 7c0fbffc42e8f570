// The receipt of a stop, as the ladder that it went down: each rung with its time.

import { attribute, fill, h, icon } from './dom.js';
import { verdict } from './run-head.js';
import { cleanupOf } from './tree.js';
import { clockExact, count, isLive, seconds, span, statusWord, who } from './words.js';

class StopReceipt extends HTMLElement {
  show(run, { tree }) {
    const { stop } = run;
    const node = tree.nodes.get(run.id);
    const settled = stop && !isLive(run.status);
    attribute(this, 'id', 'receipt');
    fill(this, settled ? `${run.status} ${stop.seconds} ${stop.settled_at} ${node?.rungs.length}` : '', () => settled && h('section', { class: 'card receipt', 'aria-label': 'Receipt' },
      h('h2', {}, icon(run.status), 'Receipt'), h('p', {}, verdict(run)), h('ol', { class: 'ladder' }, rungs(run, node).map(rung)), extras(stop)));
  }
}

/** The rungs in order: `{ at, title, says, reached }`, with `at` in seconds after the request. */
function rungs(run, node) {
  const { stop } = run;
  const began = seconds(stop.requested_at);
  const { finished, cut, refused } = stop.operations ?? {};
  const grace = node?.stop?.grace_s;
  const cleanup = node && cleanupOf(node);
  const killed = stop.reached === 'kill';
  const asked = [
    { at: 0, title: 'Asked', says: `${stop.mode === 'graceful' || !stop.also?.length ? stop.mode : 'a stop'}, by ${who(stop)}${grace ? `, with ${span(grace)} of grace` : ''}${stop.reason ? `: ${stop.reason}` : ''}`, reached: true },
    ...(stop.also ?? []).map((each) => ({ at: seconds(each.requested_at) - began, title: `Asked again: ${each.mode}`, says: `by ${who(each)}${each.reason ? `: ${each.reason}` : ''}`, reached: true })),
  ];
  return [...asked,
    { title: 'In flight', says: `${count(finished ?? 0, 'operation')} finished${refused ? `, ${refused} refused` : ''}${stop.critical_s ? `; critical sections held it back for ${span(stop.critical_s)}` : ''}`, reached: true },
    { title: 'Cut', at: rungAt(node, 'now', began), says: cut ? `${count(cut, 'operation')} cut` : 'nothing had to be cut', reached: cut > 0 },
    { title: 'Cleaned up', at: cleanup == null ? null : cleanup - began, says: `${count(stop.clients_closed, 'client')} closed${stop.cleanup_errors?.length ? `, ${count(stop.cleanup_errors.length, 'step')} failed` : ''}`, reached: true },
    { title: 'Let go', at: rungAt(node, 'kill', began), says: letGo(stop, killed), reached: killed },
    { title: statusWord(run.status), at: stop.seconds, says: stop.settled_at ? `at ${clockExact(stop.settled_at)}; ${count(stop.runs_stopped, 'run')} at rest` : 'its end was not seen', reached: true, end: run.status },
  ];
}

const rungAt = (node, mode, began) => node?.rungs.filter((each) => each.mode === mode).map((each) => each.at - began)[0];

function letGo(stop, killed) {
  if (!killed) return 'nothing had to be killed';
  const parts = [stop.processes_killed && `${count(stop.processes_killed, 'process', 'processes')} killed${stop.killed_pids?.length ? ` (${stop.killed_pids.join(', ')})` : ''}`, stop.still_running?.length && `${count(stop.still_running.length, 'task')} let go`].filter(Boolean);
  return parts.join(', ') || 'it was killed';
}

function rung({ at, title, says, reached, end }) {
  return h('li', { class: `${reached ? 'reached' : 'spared'} ${end ?? ''}` },
    h('span', { class: 'at num' }, at == null || Number.isNaN(at) ? '' : `+${span(at)}`), h('span', { class: 'step' }), h('span', {}, h('strong', {}, title), h('span', {}, says)));
}

function extras(stop) {
  const list = (title, items) => items?.length > 0 && h('details', {}, h('summary', {}, icon('chevron'), `${title} (${items.length})`), h('ul', { class: 'past' }, items.map((each) => h('li', {}, each))));
  return [
    stop.error && h('p', { class: 'hint' }, `While it was being stopped it raised ${stop.error.type}: ${stop.error.message}`),
    list('Cleanup that failed', stop.cleanup_errors),
    list('Code that still stands', stop.still_running?.map(({ file, line, function: name }) => h('code', {}, `${file}:${line} ${name}`))),
    list('Runs started detached, left alone', stop.detached?.map((id) => h('a', { href: `/dashboard/runs/${id}` }, id))),
  ].filter(Boolean);
}

customElements.define('stop-receipt', StopReceipt);
