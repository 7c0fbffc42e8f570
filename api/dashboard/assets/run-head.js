// The head of a run's page: what it is, how far, what it waits for, and what can be done.

import { now, read } from './api.js';
import './chip.js';
import { attribute, fill, h, icon, show, text } from './dom.js';
import './progress.js';
import { moves, saying } from './run-row.js';
import './stop-button.js';
import { waitsFor } from './waits.js';
import { age, count, dayAndClock, isLive, MODES, money, ownerOf, seconds, span, statusWord, stricterModes, who, wholeSpan } from './words.js';

class RunHead extends HTMLElement {
  #tasks = [];
  #asks = false;

  open(page) {
    this.page = page;
    this.chip = h('status-chip');
    this.name = h('h1');
    this.id_ = h('code', {}, page.id);
    this.tags = h('span', { class: 'tags' });
    this.button = h('stop-button');
    this.doing = h('div', { class: 'do' });
    this.bar = h('progress-bar');
    this.words = h('p', { class: 'words' });
    this.facts = h('dl', { class: 'facts' });
    this.strip = h('div', { class: 'strip', hidden: true });
    const copy = h('button', { type: 'button', class: 'quiet', title: 'Copy the id', 'aria-label': 'Copy the id', onclick: () => navigator.clipboard?.writeText(page.id) }, icon('copy'));
    this.append(
      h('div', { class: 'top' }, this.chip, this.name, h('span', { class: 'id' }, this.id_, copy), this.tags, h('div', { class: 'do' }, this.doing, this.button)),
      h('div', { class: 'card' }, this.strip, h('div', { class: 'far' }, this.bar, this.words), this.facts));
    setInterval(() => this.#ask(), 1_000);
  }

  stop() {
    return this.button.press();
  }

  show(run, { tree }) {
    this.run = run;
    this.chip.status = run.status;
    text(this.name, run.agent);
    const live = tree.nodes.has(run.id) ? tree.below(tree.nodes.get(run.id)).filter((node) => node.ended == null).length - 1 : 0;
    this.button.show(run, this.page, { below: Math.max(0, live) });
    fill(this.tags, (run.tags ?? []).join('\n'), () => run.tags.map((tag) => h('a', { class: 'tag', href: `/?tag=${encodeURIComponent(tag)}` }, tag)));
    fill(this.doing, `${run.status} ${run.actions} ${tree.steps.length}`, () => this.#actions(run, tree));
    this.#showProgress(run);
    this.#showFacts(run);
    this.#showStrip(run, tree);
  }

  #actions(run, tree) {
    const { actions } = this.page;
    const can = (action) => run.actions.includes(action);
    const button = (name, picture, says, act) => can(name) && h('button', { type: 'button', onclick: act }, icon(picture), says);
    return [
      button('pause', 'paused', 'Pause', () => actions.pause(run)),
      button('step', 'step', 'Step', () => actions.step(run)),
      button('resume', 'play', 'Resume', () => actions.resume(run)),
      !isLive(run.status) && h('a', { class: 'button', href: '#results' }, 'View results'),
      button('rerun', 'rerun', 'Rerun', () => actions.rerun(run)),
      can('rerun') && tree.steps.length > 0 && this.#rerunFrom(run, tree.steps),
    ];
  }

  #rerunFrom(run, names) {
    const pick = h('select', { 'aria-label': 'Rerun, and reuse the steps before', onchange: () => pick.value && this.page.actions.rerun(run, pick.value) },
      h('option', { value: '' }, 'Rerun from…'), h('option', { value: 'last' }, 'where it was (reuse all steps)'), names.map((name) => h('option', { value: name }, `step ${name}`)));
    return pick;
  }

  #showProgress(run) {
    const percent = run.progress?.percent;
    const counts = percent > 0;
    this.bar.show(counts ? percent : null, run.status, `Progress of ${run.agent}`);
    show(this.bar, counts || moves(run));
    // Of a stop the strip above it tells.
    const words = run.stop ? run.progress?.message : saying(run, { due: false });
    text(this.words, words);
    show(this.bar.parentElement, Boolean(words) || !this.bar.hidden);
    attribute(this.words, 'data-status', run.status);
  }

  #showFacts(run) {
    const facts = [
      ['Owner', ownerOf(run)], ['Attempt', run.attempt > 1 && `${run.attempt}, after a crash`], ['Node', run.node],
      ['Begun', run.started_at && `${dayAndClock(run.started_at)}`, run.started_at && age(now() - seconds(run.started_at))],
      [run.ended_at ? 'Took' : 'For', run.started_at && took(run)],
      ['Deadline', ...deadline(run)],
      ['Cost', run.usage?.cost > 0 && money(run.usage.cost)],
      ['Tokens', run.usage?.requests > 0 && count(run.usage.input_tokens + run.usage.output_tokens, 'token').replace(/ tokens?/, '')],
    ].filter(([, value]) => value);
    fill(this.facts, facts.map(([name]) => name).join(), () => facts.map(([name]) => h('div', {}, h('dt', {}, name), h('dd', { class: 'num' }, h('span'), h('span', { class: 'hint' })))));
    facts.forEach(([, value, hint], n) => {
      const [first, second] = this.facts.children[n].lastChild.children;
      text(first, value);
      text(second, hint ?? '');
    });
  }

  // While it is being stopped: for what, until when, by whom; and how to make it stricter.
  #showStrip(run, tree) {
    show(this.strip, run.status === 'stopping' || Boolean(run.stop && !isLive(run.status)));
    if (this.strip.hidden) return;
    attribute(this.strip, 'class', `strip ${run.status}`);
    if (run.status === 'stopping') this.#showStopping(run, tree);
    else fill(this.strip, `over ${run.status} ${run.stop.seconds}`, () => [icon(run.status), h('p', {}, verdict(run), ' ', h('a', { href: '#receipt' }, 'See the receipt'))]);
  }

  #showStopping(run, tree) {
    fill(this.strip, `stopping ${run.stop?.mode} ${run.actions}`, () => [
      icon('stopping'), h('p', {}, (this.waits = h('strong')), ' ', (this.left = h('span', { class: 'num' })), h('br'), (this.asker = h('span', { class: 'hint' }))),
      ...(run.actions.includes('stop') ? stricterModes(run.stop?.mode ?? 'graceful') : []).map((mode) =>
        h('button', { type: 'button', class: 'danger outline', title: MODES[mode].says, onclick: () => this.page.actions.stop(this.run, { mode, reason: '' }) }, MODES[mode].does)),
    ]);
    const { words, until } = waitsFor(tree, run, now(), this.#tasks);
    const left = until == null ? null : until - now();
    text(this.waits, words ? `Stopping… ${words}` : 'Stopping…');
    text(this.left, left > 0 ? `${wholeSpan(left)} left` : '');
    const since = run.stop?.requested_at ? ` ${wholeSpan(now() - seconds(run.stop.requested_at))} ago` : '';
    text(this.asker, `${run.stop?.mode ?? 'graceful'}, asked for by ${who(run.stop ?? {})}${since}${run.stop?.reason ? `: ${run.stop.reason}` : ''}`);
  }

  // Critical sections and cleanup have no events, so the tasks themselves are asked.
  async #ask() {
    if (this.run?.status !== 'stopping' || document.hidden) {
      this.#tasks = [];
      return;
    }
    // One after the other: a server that is slow must not be asked ever more.
    if (this.#asks) return;
    this.#asks = true;
    const { tasks } = await read(`/runs/${this.run.id}/stack`).catch(() => ({ tasks: [] }));
    this.#tasks = tasks;
    this.#asks = false;
  }
}

const took = (run) => (run.ended_at ? span(seconds(run.ended_at) - seconds(run.started_at)) : wholeSpan(now() - seconds(run.started_at)));

function deadline(run) {
  if (!run.deadline_at) return [null];
  const left = seconds(run.deadline_at) - now();
  if (!isLive(run.status)) return [dayAndClock(run.deadline_at)];
  return [left > 0 ? `in ${wholeSpan(left)}` : 'is over', dayAndClock(run.deadline_at)];
}

/** What became of a stop, in a sentence that says only what is proved. */
export function verdict({ status, stop }) {
  const took = stop.seconds == null ? '' : ` in ${span(stop.seconds)}`;
  const asked = `by ${who(stop)}${stop.reason ? ` (${stop.reason})` : ''}`;
  if (status === 'succeeded') return `It had already returned when the stop ${asked} came. Its result stands.`;
  if (status === 'abandoned') return `The stop ${asked} let go of code that would not exit. It can start nothing any more.`;
  if (status === 'lost') return `Its process died, so the end of the stop ${asked} could not be seen.`;
  const proof = `${count(stop.runs_stopped, 'run')} at rest, ${stop.operations.finished} finished, ${stop.operations.cut} cut, ${count(stop.clients_closed, 'client')} closed.`;
  return `${statusWord(status)[0].toUpperCase()}${statusWord(status).slice(1)} ${asked}${took}: ${proof}`;
}

customElements.define('run-head', RunHead);
