// The small panel in which a person says how to stop, or how to stop harder. Closing it, with
// Escape or in any other way, stops nothing.

import { h, icon, show, text } from './dom.js';
import { count, isLive, MODES, span, statusWord, stricterModes } from './words.js';

const panel = h('dialog', { class: 'panel', 'aria-labelledby': 'stop-title' });
document.body.append(panel);
panel.addEventListener('click', (event) => event.target === panel && panel.close());

let unwatch = () => {};
panel.addEventListener('close', () => unwatch());

/** Ask how to stop one run, and do it. `runs` tells if it ends in the meantime. */
export function askToStop(run, { runs, actions, below = 0 }) {
  const harder = run.status === 'stopping';
  const aside = h('p', { class: 'note' }, below ? `The ${count(below, 'sub-agent')} below it will be stopped too.` : '', h('span', { class: 'over' }));
  open({
    title: [harder ? 'Stop harder: ' : 'Stop ', h('strong', {}, run.agent), ' ', h('code', {}, run.id)],
    aside,
    modes: harder ? stricterModes(run.stop?.mode ?? 'graceful') : Object.keys(MODES),
    grace: run.options?.grace_s,
    keep: harder ? 'Leave it' : 'Keep it running',
    stop: (order) => actions.stop(runs.get(run.id) ?? run, order),
  });
  unwatch = runs.watch((changed) => changed.has(run.id) && close(runs.get(run.id), aside.lastChild));
}

/** Ask how to stop many runs, and call `stop` with the order. */
export function askToStopMany(runs, { passed = 0, stop }) {
  const tally = Map.groupBy(runs, (run) => run.status);
  const parts = [...tally].map(([status, some]) => `${some.length} ${statusWord(status)}`).join(', ');
  const over = passed ? ` ${count(passed, 'other')} of the selection ${passed === 1 ? 'has' : 'have'} ended.` : '';
  open({
    title: [`Stop ${count(runs.length, 'run')}`],
    aside: h('div', { class: 'note' }, h('p', {}, `${parts}, and everything below them.${over}`), preview(runs)),
    modes: Object.keys(MODES),
    keep: 'Keep them running',
    stop,
  });
}

function preview(runs) {
  const shown = runs.slice(0, 5).map((run) => h('li', {}, run.agent, ' ', h('code', {}, run.id)));
  const rest = runs.length - shown.length;
  return h('ul', { class: 'preview' }, shown, rest > 0 && h('li', {}, `and ${count(rest, 'other')}`));
}

// What is over cannot be stopped: the panel says so, and has nothing left to press.
function close(run, over) {
  if (run && isLive(run.status)) return;
  text(over, run ? `It has ended: ${statusWord(run.status)}.` : 'It is gone.');
  panel.querySelector('[type=submit]').disabled = true;
}

function open({ title, aside, modes, grace, keep, stop }) {
  unwatch();
  unwatch = () => {};
  const submit = h('button', { type: 'submit', class: 'danger' });
  const choices = modes.map((mode, n) => choice(mode, n === 0, grace));
  const form = h('form', { method: 'dialog', onchange: () => label(form, submit) },
    h('h2', { id: 'stop-title' }, title), aside,
    h('fieldset', {}, h('legend', { class: 'unseen' }, 'How'), choices),
    h('label', { for: 'reason' }, 'Reason ', h('span', { class: 'hint' }, 'goes onto the receipt')),
    h('input', { id: 'reason', name: 'reason', maxlength: 2000, autocomplete: 'off' }),
    h('label', { class: 'check' }, h('input', { type: 'checkbox', name: 'discard' }), 'Throw away partial results and files as well'),
    h('div', { class: 'buttons' }, h('button', { type: 'button', onclick: () => panel.close() }, keep), submit));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    panel.close();
    stop(orderOf(new FormData(form)));
  });
  label(form, submit);
  panel.replaceChildren(form);
  panel.showModal();
  form.querySelector('[name=mode]:checked').focus();
}

function choice(mode, checked, grace) {
  const radio = h('input', { type: 'radio', name: 'mode', value: mode, checked, 'aria-describedby': `does-${mode}` });
  const extra = mode === 'graceful' && h('span', { class: 'grace' },
    h('label', { for: 'grace' }, 'for at most', h('span', { class: 'unseen' }, ' so many seconds')),
    h('input', { id: 'grace', name: 'grace_s', type: 'number', min: 0, max: 86400, step: 'any', placeholder: grace ?? 'its own' }),
    's', grace != null && h('span', { class: 'hint' }, ` (${span(grace)} if left out)`));
  return h('div', { class: 'choice' }, h('label', {}, radio, h('span', {}, h('strong', {}, mode), h('span', { id: `does-${mode}` }, MODES[mode].says))), extra);
}

function label(form, submit) {
  const { does } = MODES[new FormData(form).get('mode')];
  submit.replaceChildren(icon('stop'), does);
  const grace = form.querySelector('.grace');
  if (!grace) return;
  show(grace, does === 'Stop');
  // A field that nobody sees must not keep the form from being sent.
  grace.querySelector('input').disabled = grace.hidden;
}

function orderOf(form) {
  const order = { mode: form.get('mode'), reason: form.get('reason') };
  if (order.mode === 'graceful' && form.get('grace_s')) order.grace_s = Number(form.get('grace_s'));
  if (form.has('discard')) order.discard = true;
  return order;
}
