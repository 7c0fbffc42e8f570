// The button. Red while a run may be stopped; grey, with what it waits for, while it is being
// stopped; and gone when it is over.

import { h, icon } from './dom.js';
import { askToStop } from './stop-panel.js';
import { stricterModes } from './words.js';

class StopButton extends HTMLElement {
  #shown = '';

  /**
   * page: `{ runs, actions }`. below: how many live sub-agents the run has, if that is known.
   * small: in a list. There it also leads to a stricter stop, for which a run's page has buttons.
   */
  show(run, page, { small = false, below = 0 } = {}) {
    Object.assign(this, { run, page, below });
    const mode = run.stop?.mode;
    const key = `${run.id} ${run.status} ${run.pending} ${run.actions.includes('stop')} ${mode}`;
    if (key === this.#shown) return;
    this.#shown = key;
    const focused = this.contains(document.activeElement);
    this.replaceChildren(...parts(run, () => this.press(), small));
    // What had the focus is gone; the keyboard must not begin at the top of the page again.
    if (focused) (this.querySelector('button:not(:disabled)') ?? this).focus();
  }

  connectedCallback() {
    this.tabIndex = -1;
  }

  /** Open the panel, if there is anything to stop. Returns whether it did. */
  press() {
    const { run } = this;
    const can = run?.actions.includes('stop') && (run.status !== 'stopping' || harderModes(run).length > 0);
    if (can) askToStop(run, { ...this.page, below: this.below });
    return can;
  }
}

const harderModes = (run) => stricterModes(run.stop?.mode ?? 'graceful');

function parts(run, ask, small) {
  const may = run.actions.includes('stop');
  if (run.status === 'stopping') {
    const busy = h('button', { type: 'button', disabled: true, class: 'stopping' }, icon('stopping'), 'Stopping…');
    const name = `Stop ${run.agent} ${run.id} harder`;
    const harder = h('button', { type: 'button', class: 'danger outline', 'aria-label': name, onclick: ask }, 'Harder…');
    return small && may && harderModes(run).length ? [busy, harder] : [busy];
  }
  if (!may) return [];
  const name = small ? `Stop ${run.agent} ${run.id}` : null;
  return [h('button', { type: 'button', class: small ? 'danger outline' : 'danger', 'aria-label': name, onclick: ask }, icon('stop'), 'Stop')];
}

customElements.define('stop-button', StopButton);
