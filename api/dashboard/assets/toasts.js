// Short notices, and what is said to those who do not see the page.

import { h, icon, text } from './dom.js';

const SHOWN_MS = 5_000;

const region = () => document.querySelector('#toasts');

/** Show a notice. One of the kind `error` stays until it is closed. */
export function toast(words, { kind = 'info', action } = {}) {
  const close = h('button', { type: 'button', class: 'quiet', 'aria-label': 'Close this notice', onclick: () => box.remove() }, icon('close'));
  const does = action && h('button', { type: 'button', onclick: () => { box.remove(); action.call(); } }, action.label);
  const box = h('div', { class: `toast ${kind}`, role: kind === 'error' ? 'alert' : 'status' },
    icon(kind === 'error' ? 'failed' : 'info'), h('p', {}, words), does, close);
  region().append(box);
  if (kind !== 'error') fade(box);
}

function fade(box) {
  const leave = () => (box.matches(':hover, :focus-within') ? setTimeout(leave, 1_000) : box.remove());
  setTimeout(leave, SHOWN_MS);
}

/** Say something to readers of screens, and to nobody else. */
export function announce(words) {
  const voice = document.querySelector('#voice');
  // The same words twice are two announcements.
  text(voice, voice.textContent === words ? `${words}\u00a0` : words);
}
