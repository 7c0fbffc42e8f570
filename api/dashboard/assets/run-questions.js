// What a run, or something below it, asks a person.

import { h, icon, show } from './dom.js';
import { fieldFor, plain } from './schema-form.js';
import { clock } from './words.js';

class RunQuestions extends HTMLElement {
  #cards = new Map();

  // A card stays for as long as its question does: somebody may be writing into it.
  show(run, { tree, runs, actions }) {
    const asked = new Map([...tree.nodes.values()].flatMap((node) => [...node.questions.values()].map((question) => [`${node.id} ${question.question_id}`, { node, question }])));
    for (const [key, { element }] of this.#cards) {
      if (asked.has(key)) continue;
      element.remove();
      this.#cards.delete(key);
    }
    for (const [key, { node, question }] of asked) {
      if (!this.#cards.has(key)) this.#cards.set(key, card(node, question, (answer) => actions.answer(runs.get(node.id), { question_id: question.question_id, answer })));
      const { element, allow } = this.#cards.get(key);
      if (!element.isConnected) this.append(element);
      const of = runs.get(node.id);
      allow(Boolean(of?.pending || of?.actions.includes('answer')), runs.certain);
    }
    show(this, asked.size > 0);
  }
}

// allow: says whether it may be answered, and whether that is certain.
function card(node, question, answer) {
  const until = question.until_at && h('span', { class: 'hint' }, ` It waits until ${clock(question.until_at)}.`);
  const fields = form(question, answer);
  const forbidden = h('p', { class: 'hint', hidden: true }, 'You may not answer it.');
  show(fields, false);
  return {
    element: h('section', { class: 'card question', 'aria-label': 'A question to you' }, icon('ask'),
      h('div', {}, h('p', { class: 'hint' }, `${node.agent} asks`), h('h2', {}, question.question, until), fields, forbidden)),
    allow(may, certain) {
      fields.querySelectorAll('button').forEach((button) => (button.disabled = !may));
      if (!may && !certain) return;
      show(fields, may);
      show(forbidden, !may);
    },
  };
}

function form(question, answer) {
  const few = choices(plain(question.schema, question.schema));
  const refused = h('p', { class: 'refused', role: 'alert', hidden: true });
  const give = async (value) => {
    try {
      await answer(value);
    } catch (problem) {
      refused.textContent = problem.errors[0]?.message ?? problem.message;
      show(refused, true);
    }
  };
  if (few) return h('div', { class: 'answers' }, few.map(({ says, value }) => h('button', { type: 'button', onclick: () => give(value) }, says)), refused);
  const wanted = fieldFor('Answer', question.schema ?? {});
  const made = h('form', { novalidate: true }, wanted.element, refused, h('button', { type: 'submit', class: 'primary' }, 'Answer'));
  made.addEventListener('submit', (event) => {
    event.preventDefault();
    send(wanted, give);
  });
  return made;
}

function send(wanted, give) {
  try {
    give(wanted.read());
    wanted.refuse(null);
  } catch (error) {
    wanted.refuse(error.message);
  }
}

function choices(schema) {
  if (schema.nullable) return null;
  if (schema.type === 'boolean') return [{ says: 'Yes', value: true }, { says: 'No', value: false }];
  if (schema.enum?.length <= 5) return schema.enum.map((value) => ({ says: String(value), value }));
  return null;
}

customElements.define('run-questions', RunQuestions);
