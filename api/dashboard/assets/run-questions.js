// What a run, or something below it, asks a person.

import { fill, h, icon, show } from './dom.js';
import { fieldFor, plain } from './schema-form.js';
import { clock } from './words.js';

class RunQuestions extends HTMLElement {
  show(run, { tree, runs, actions }) {
    const asked = [...tree.nodes.values()].flatMap((node) => [...node.questions.values()].map((question) => ({ node, question })));
    const may = ({ node }) => runs.get(node.id)?.pending || runs.get(node.id)?.actions.includes('answer');
    fill(this, asked.map((each) => `${each.question.question_id} ${may(each)}`).join(), () =>
      asked.map((each) => card(each.node, each.question, may(each) && ((answer) => actions.answer(runs.get(each.node.id), { question_id: each.question.question_id, answer })))));
    show(this, asked.length > 0);
  }
}

function card(node, question, answer) {
  const until = question.until_at && h('span', { class: 'hint' }, ` It waits until ${clock(question.until_at)}.`);
  return h('section', { class: 'card question', 'aria-label': 'A question to you' }, icon('ask'),
    h('div', {}, h('p', { class: 'hint' }, `${node.agent} asks`), h('h2', {}, question.question, until), answer ? form(question, answer) : h('p', { class: 'hint' }, 'You may not answer it.')));
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
