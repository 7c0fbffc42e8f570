// Starting a run, now or on a schedule: the form is made from the agent's JSON Schema.

import { read, send } from './api.js';
import { h, icon, show } from './dom.js';
import { fieldsOf } from './schema-form.js';
import { toast } from './toasts.js';

// The options that people choose; programs have all of them.
const OPTIONS = {
  properties: {
    deadline_s: { type: 'number', minimum: 0, description: 'Stop it after so many seconds.' },
    grace_s: { type: 'number', minimum: 0, description: 'What is in flight may take so long when it is stopped.' },
    tags: { type: 'array', items: { type: 'string' }, description: 'Words to find it by.' },
    isolation: { enum: ['task', 'process'], description: 'A process of its own can be killed.' },
    retention_s: { type: 'number', minimum: 0, description: 'Keep it for so many seconds after its end.' },
    debug: { type: 'boolean', description: 'Begin paused, and go step by step.' },
  },
};
const WHEN = {
  required: ['cron'],
  properties: {
    cron: { type: 'string', description: 'Minute, hour, day, month, weekday: 0 3 * * 1-5 is 03:00 on weekdays.' },
    zone: { type: 'string', default: 'UTC', description: 'The time zone that this means, such as Europe/Berlin.' },
    id: { type: 'string', description: 'A name for the schedule.' },
    overlap: { enum: ['skip', 'allow', 'enqueue', 'stop_previous'], default: 'skip', description: 'When the run before has not ended.' },
    missed: { enum: ['skip', 'once'], default: 'skip', description: 'When the server was down or halted.' },
  },
};

const dialog = h('dialog', { class: 'panel wide', 'aria-labelledby': 'start-title' });
document.body.append(dialog);

/**
 * Let a person choose an agent and fill in its input.
 * scheduled: is told once a schedule was made; if it is left out, a run is started.
 */
export async function openStartForm(chosen, scheduled = null) {
  let agents;
  try {
    ({ agents } = await read('/agents'));
  } catch (problem) {
    toast(`The agents could not be read: ${problem.message}.`, { kind: 'error' });
    return;
  }
  // It is open already, and somebody may have filled it in.
  if (dialog.open) return;
  if (agents.length === 0) toast('This server has no agents. Serve some with quiesce serve --agents FILE.');
  else draw(agents, agents.find((agent) => agent.name === chosen) ?? agents[0], scheduled);
}

function draw(agents, agent, scheduled) {
  const input = fieldsOf(agent.input_schema);
  const options = fieldsOf(OPTIONS);
  const when = fieldsOf(scheduled ? WHEN : {});
  const files = h('input', { id: 'files', type: 'file', multiple: true });
  const refused = h('p', { class: 'refused', role: 'alert', hidden: true });
  const pick = h('select', { id: 'agent', onchange: () => draw(agents, agents.find(({ name }) => name === pick.value), scheduled) },
    agents.map(({ name }) => h('option', { value: name, selected: name === agent.name }, name)));
  const form = h('form', { method: 'dialog', novalidate: true },
    h('h2', { id: 'start-title' }, scheduled ? 'Start runs on a schedule' : 'Start a run'),
    h('label', { for: 'agent' }, 'Agent'), pick,
    agent.description && h('p', { class: 'note' }, agent.description.split('\n\n')[0]),
    when.elements,
    input.elements.length ? input.elements : h('p', { class: 'hint' }, 'It takes no input.'),
    h('details', {}, h('summary', {}, icon('chevron'), 'Options'), options.elements),
    !scheduled && h('div', { class: 'field' }, h('label', { for: 'files' }, 'Files', h('span', { class: 'hint' }, ' optional')), files, h('p', { class: 'hint' }, 'What the run is to read.')), refused,
    h('div', { class: 'buttons' }, h('button', { type: 'button', onclick: () => dialog.close() }, 'Not now'),
      h('button', { type: 'submit', class: 'primary' }, icon('play'), scheduled ? 'Schedule' : 'Start')));
  // Of a form that is sent twice, one run comes.
  const once = key();
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    start(agent, { input, options, when, files, refused, form, once, scheduled });
  });
  dialog.replaceChildren(form);
  if (!dialog.open) dialog.showModal();
  pick.focus();
}

async function start(agent, { input, options, when, files, refused, form, once, scheduled }) {
  const button = form.querySelector('[type=submit]');
  show(refused, false);
  button.disabled = true;
  try {
    const order = { agent: agent.name, input: input.read(), options: options.read(), ...when.read() };
    if (scheduled) {
      scheduled(await send('POST', '/schedules', order));
      dialog.close();
      return;
    }
    const run = await send('POST', '/runs', withFiles(order, files.files), { 'Idempotency-Key': once });
    location.assign(`/dashboard/runs/${run.id}`);
  } catch (problem) {
    button.disabled = false;
    const left = problem.errors ? when.refuse(options.refuse(input.refuse(problem.errors, 'input.'), 'options.'), '') : [];
    if (!problem.errors?.length) left.push({ field: '', message: problem.message });
    refused.textContent = left.map(({ field, message }) => (field ? `${field}: ${message}` : message)).join('; ');
    show(refused, left.length > 0);
    form.querySelector('[aria-invalid]')?.focus();
  }
}

function withFiles(order, files) {
  if (files.length === 0) return order;
  const form = new FormData();
  form.append('order', JSON.stringify(order));
  [...files].forEach((file) => form.append('files', file));
  return form;
}

const key = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, '0')).join('');
