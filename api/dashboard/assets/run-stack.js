// "What is it waiting for?": where each of its tasks stands, read while somebody looks.

import { read } from './api.js';
import { fill, h, icon, show } from './dom.js';
import { count, isLive } from './words.js';

const EVERY_MS = 2_000;

class RunStack extends HTMLElement {
  #reads = false;

  open() {
    this.body = h('div', { class: 'stacks' });
    this.box = h('details', { class: 'card', ontoggle: () => this.#read() }, h('summary', {}, icon('chevron'), h('h2', {}, 'What is it waiting for?')), this.body);
    this.append(this.box);
    setInterval(() => document.hidden || this.#read(), EVERY_MS);
  }

  show(run) {
    this.run = run;
    show(this, isLive(run.status));
  }

  async #read() {
    // One after the other: a server that is slow must not be asked ever more.
    if (!this.run || !this.box.open || this.hidden || this.#reads) return;
    this.#reads = true;
    try {
      const { tasks } = await read(`/runs/${this.run.id}/stack`);
      fill(this.body, JSON.stringify(tasks), () => (tasks.length ? tasks.map(task) : h('p', { class: 'hint' }, 'It has no task at present.')));
    } catch (problem) {
      fill(this.body, problem.message, () => h('p', { class: 'refused' }, `That could not be read: ${problem.message}.`));
    } finally {
      this.#reads = false;
    }
  }
}

function task({ agent, operation, frames }) {
  const own = frames.findLast(({ file }) => !/\/(trio|httpx|httpcore|orchestrator|asyncio)\//.test(file)) ?? frames.at(-1);
  const place = ({ file, line, function: name }) => [h('code', {}, `${file.split('/').at(-1)}:${line}`), ` ${name}`];
  return h('div', { class: 'stack' },
    h('p', {}, h('strong', {}, agent), operation ? ` is in ${operation}` : ' is in no operation', own ? [', at ', ...place(own)] : ''),
    h('details', {}, h('summary', { class: 'hint' }, icon('chevron'), count(frames.length, 'frame')),
      h('ol', {}, frames.toReversed().map((frame) => h('li', { title: `${frame.file}:${frame.line}` }, place(frame))))));
}

customElements.define('run-stack', RunStack);
