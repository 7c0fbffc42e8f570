// A question before something is gone for ever. Closing it, in any way but one, does nothing.

import { h } from './dom.js';

const dialog = h('dialog', { class: 'panel', 'aria-labelledby': 'confirm-title' });
document.body.append(dialog);

/** Ask, and call `yes` if that is meant. title, says, does: texts; keep: the way out. */
export function confirm({ title, says, does, keep }, yes) {
  const out = h('button', { type: 'button', onclick: () => dialog.close() }, keep);
  const form = h('form', { method: 'dialog' },
    h('h2', { id: 'confirm-title' }, title), h('p', { class: 'note' }, says),
    h('div', { class: 'buttons' }, out, h('button', { type: 'submit', class: 'danger' }, does)));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    dialog.close();
    yes();
  });
  dialog.replaceChildren(form);
  dialog.showModal();
  out.focus();
}
