// The switch that stops everything and lets nothing start until somebody allows it again.

import { read, send } from './api.js';
import { h, icon, show } from './dom.js';
import { mayHalt } from './session.js';
import { toast } from './toasts.js';
import { count, dayAndClock } from './words.js';

// Nobody tells of a halt while nothing runs, nor when one is lifted, so it is asked for.
const AGAIN_MS = 5_000;

class HaltSwitch extends HTMLElement {
  #may = false;
  #missing = false;
  #halt = null;
  #asked = 0;
  #told = 0;

  open() {
    this.button = h('button', { type: 'button', class: 'quiet', hidden: true, onclick: () => this.#ask() }, icon('halt'), 'Halt…');
    this.dialog = h('dialog', { class: 'panel', 'aria-labelledby': 'halt-title' });
    this.append(this.button, this.dialog);
    setInterval(() => !document.hidden && this.reload().catch(() => {}), AGAIN_MS);
  }

  set session(session) {
    this.#may = mayHalt(session);
    this.#show();
  }

  /** Read whether everything is halted. */
  async reload() {
    if (this.#missing) return null;
    const asked = ++this.#asked;
    try {
      const answer = await read('/halt');
      // One that a later answer has overtaken says what was.
      if (asked < this.#told) return answer;
      this.#told = asked;
      this.#halt = answer.halt;
      this.#show();
      return answer;
    } catch (problem) {
      // This server has no such switch, or not for us.
      if (problem.status !== 404 && problem.status !== 403) throw problem;
      this.#missing = true;
      this.#show();
      return null;
    }
  }

  #show() {
    const halt = this.#halt;
    show(this.button, this.#may && !halt && !this.#missing);
    const banner = document.querySelector('#halted');
    show(banner, Boolean(halt));
    if (!halt) return;
    const by = halt.requested_by && halt.requested_by !== 'anonymous' ? ` by ${halt.requested_by}` : '';
    banner.replaceChildren(icon('halt'),
      h('p', {}, h('strong', {}, 'Halted'), ` since ${dayAndClock(halt.requested_at)}${by}${halt.reason ? `: ${halt.reason}` : ''}. Nothing starts.`),
      ...(this.#may ? [h('button', { type: 'button', onclick: () => this.#lift() }, 'Allow starts again')] : []));
  }

  // It is counted first: a person must know what this will stop.
  async #ask() {
    const answer = await this.reload().catch((problem) => toast(`What runs could not be counted: ${problem.message}.`, { kind: 'error' }));
    if (!answer || answer.halt) return;
    const runs = count(answer.live, 'run');
    const reason = h('input', { id: 'halt-reason', maxlength: 2000, autocomplete: 'off' });
    const form = h('form', { method: 'dialog' },
      h('h2', { id: 'halt-title' }, 'Halt everything'),
      h('p', { class: 'note' }, answer.live ? `This stops ${runs}, sub-agents included, whoever they belong to. ` : 'Nothing runs at present. ',
        'Nothing starts until starts are allowed again.'),
      h('label', { for: 'halt-reason' }, 'Reason'), reason,
      h('div', { class: 'buttons' }, h('button', { type: 'button', onclick: () => this.dialog.close() }, 'Go on as before'),
        h('button', { type: 'submit', class: 'danger' }, icon('halt'), answer.live ? `Halt, and stop ${runs}` : 'Halt')));
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.dialog.close();
      this.#begin(reason.value);
    });
    this.dialog.replaceChildren(form);
    this.dialog.showModal();
    reason.focus();
  }

  #begin(reason) {
    return this.#change(() => send('POST', '/halt', { reason }), 'Nothing was halted', () => this.#begin(reason));
  }

  #lift() {
    return this.#change(() => send('DELETE', '/halt'), 'Starts could not be allowed', () => this.#lift());
  }

  async #change(ask, failed, again) {
    try {
      await ask();
    } catch (problem) {
      toast(`${failed}: ${problem.message}.`, { kind: 'error', action: { label: 'Try again', call: again } });
    }
    await this.reload().catch(() => {});
  }
}

customElements.define('halt-switch', HaltSwitch);
