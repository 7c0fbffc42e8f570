// The switch that stops everything and lets nothing start until somebody allows it again.

import { read, send } from './api.js';
import { h, icon, show } from './dom.js';
import { mayHalt } from './session.js';
import { toast } from './toasts.js';
import { count, dayAndClock } from './words.js';

class HaltSwitch extends HTMLElement {
  #may = false;
  #missing = false;
  #halt = null;

  /** summary: counts what would be stopped. A page without one shows a halt, but cannot ask for it. */
  open(summary = null) {
    this.summary = summary;
    this.button = h('button', { type: 'button', class: 'quiet', onclick: () => this.#ask() }, icon('halt'), 'Halt…');
    this.dialog = h('dialog', { class: 'panel', 'aria-labelledby': 'halt-title' });
    this.append(this.button, this.dialog);
    show(this.button, false);
  }

  set session(session) {
    this.#may = mayHalt(session);
    if (this.#halt) this.#show(this.#halt);
  }

  /** Read whether everything is halted. */
  async reload() {
    if (this.#missing) return;
    try {
      this.#show(await read('/halt'));
    } catch (problem) {
      // This server has no such switch, or not for us.
      if (problem.status !== 404 && problem.status !== 403) throw problem;
      this.#missing = true;
    }
  }

  #show(halt) {
    this.#halt = halt;
    const halted = Boolean(halt.halted);
    show(this.button, this.#may && !halted && Boolean(this.summary));
    const banner = document.querySelector('#halted');
    show(banner, halted);
    if (!halted) return;
    const since = halt.since ?? halt.halted_at;
    const allow = h('button', { type: 'button', onclick: () => this.#change('DELETE') }, 'Allow starts again');
    banner.replaceChildren(icon('halt'), h('p', {}, h('strong', {}, 'Halted'), since ? ` since ${dayAndClock(since)}` : '', halt.requested_by ? ` by ${halt.requested_by}` : '',
      halt.reason ? `: ${halt.reason}` : '', '. Nothing starts.'), ...(this.#may ? [allow] : []));
  }

  async #ask() {
    await this.summary.reload().catch(() => {});
    const n = this.summary.stoppable;
    const reason = h('input', { id: 'halt-reason', maxlength: 2000, autocomplete: 'off' });
    const form = h('form', { method: 'dialog' },
      h('h2', { id: 'halt-title' }, 'Halt everything'),
      h('p', { class: 'note' }, n ? `This stops ${count(n, 'run')} and everything below, of everybody. ` : 'Nothing runs at present. ',
        'Nothing new starts until starts are allowed again.'),
      h('label', { for: 'halt-reason' }, 'Reason'), reason,
      h('div', { class: 'buttons' }, h('button', { type: 'button', onclick: () => this.dialog.close() }, 'Go on as before'),
        h('button', { type: 'submit', class: 'danger' }, icon('halt'), n ? `Halt, and stop ${count(n, 'run')}` : 'Halt')));
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.dialog.close();
      this.#change('POST', { reason: reason.value });
    });
    this.dialog.replaceChildren(form);
    this.dialog.showModal();
    reason.focus();
  }

  async #change(method, order) {
    try {
      const answer = await send(method, '/halt', order);
      if (answer?.halted !== undefined) this.#show(answer);
      else await this.reload();
    } catch (problem) {
      toast(`That failed: ${problem.message}.`, { kind: 'error', action: { label: 'Try again', call: () => this.#change(method, order) } });
    }
  }
}

customElements.define('halt-switch', HaltSwitch);
