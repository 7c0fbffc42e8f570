// How far a run is: a bar, and the words beside it.

import { attribute, h } from './dom.js';

class ProgressBar extends HTMLElement {
  #fill = h('div');

  connectedCallback() {
    this.setAttribute('role', 'progressbar');
    this.setAttribute('aria-valuemin', '0');
    this.setAttribute('aria-valuemax', '100');
    if (!this.#fill.isConnected) this.append(this.#fill);
  }

  /** percent: 0 to 100; null while nobody knows. name: what the bar is of. */
  show(percent, status, name) {
    attribute(this, 'aria-label', name);
    attribute(this, 'aria-valuenow', percent == null ? null : Math.round(percent));
    attribute(this, 'data-status', status);
    this.classList.toggle('unknown', percent == null);
    this.#fill.style.transform = `scaleX(${percent == null ? 1 : percent / 100})`;
  }
}

customElements.define('progress-bar', ProgressBar);
