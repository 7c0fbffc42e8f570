// A status, as an icon and a word: never by colour alone.

import { attribute, h, icon, text } from './dom.js';
import { STATUSES, statusWord } from './words.js';

class StatusChip extends HTMLElement {
  #word = h('span');
  #status = null;

  /** Show the status of a run. */
  set status(status) {
    if (!status || status === this.#status) return;
    this.#status = status;
    this.className = `chip ${status}`;
    attribute(this, 'title', STATUSES[status]);
    text(this.#word, status === 'stopping' ? 'stopping…' : statusWord(status));
    this.replaceChildren(icon(status), this.#word);
  }

  get status() {
    return this.#status;
  }
}

customElements.define('status-chip', StatusChip);

export function chip(status) {
  const made = h('status-chip');
  made.status = status;
  return made;
}
