// Which runs are shown. It all stands in the address, so a link shows the same again.

import { read } from './api.js';
import { address, h, icon } from './dom.js';
import { LIVE, statusWord, STATUSES } from './words.js';

const NAMES = ['q', 'status', 'agent', 'owner', 'tag', 'parent', 'asks'];
const ENDED = Object.keys(STATUSES).filter((status) => !LIVE.includes(status));
const GROUPS = {
  '': 'Any status', [LIVE.join(',')]: 'Live', [ENDED.join(',')]: 'Ended', 'failed,timed_out,abandoned,lost': 'Needs a look',
};

class RunFilters extends HTMLElement {
  open(asked) {
    this.asked = asked;
    this.append(h('form', { role: 'search', 'aria-label': 'Filter the runs', onsubmit: (event) => event.preventDefault() },
      h('span', { class: 'search' }, icon('search'), this.#field('q', 'search', 'Search agent, id, owner, tag, message', { id: 'search' })),
      (this.status = this.#choice('status', 'Status')), (this.agent = this.#choice('agent', 'Agent')),
      h('button', { type: 'button', class: 'quiet more', 'aria-expanded': 'false', onclick: (event) => this.#more(event.target) }, 'More filters'),
      h('span', { class: 'rest' }, this.#field('owner', 'text', 'Owner'), this.#field('tag', 'text', 'Tag'),
        h('label', { class: 'check' }, this.#box('parent', 'any'), 'sub-agents too')),
      (this.clear = h('a', { class: 'button quiet', href: '/' }, icon('close'), 'Clear'))));
    this.status.append(...Object.entries(GROUPS).map(option), h('hr'), ...Object.keys(STATUSES).map((status) => option([status, statusWord(status)])));
    this.agent.append(option(['', 'Any agent']));
    this.#show();
    window.addEventListener('popstate', () => this.#moved(true));
    read('/agents').then(({ agents }) => this.#offer(agents), () => {});
  }

  /** The filters as the list takes them. */
  get query() {
    const given = Object.fromEntries(NAMES.map((name) => [name, address.get(name)]).filter(([, value]) => value));
    if (given.parent === 'any') delete given.parent;
    else given.parent ??= 'none';
    return given;
  }

  // There is no room for all of them on a small screen.
  #more(button) {
    const open = this.classList.toggle('open');
    button.setAttribute('aria-expanded', String(open));
  }

  #offer(agents) {
    this.agent.append(...agents.map(({ name }) => option([name, name])));
    this.#show();
  }

  #field(name, type, placeholder, extra = {}) {
    let waiting;
    const take = (event) => {
      clearTimeout(waiting);
      waiting = setTimeout(() => this.#take(name, event.target.value.trim()), 250);
    };
    return h('input', { name, type, placeholder, 'aria-label': placeholder, autocomplete: 'off', spellcheck: 'false', oninput: take, ...extra });
  }

  #choice(name, says) {
    return h('select', { name, 'aria-label': says, onchange: (event) => this.#take(name, event.target.value) });
  }

  #box(name, value) {
    return h('input', { type: 'checkbox', name, onchange: (event) => this.#take(name, event.target.checked ? value : '') });
  }

  #take(name, value) {
    // A new search is a place to come back to; a word that is being typed is none.
    address.set({ [name]: value, ...(name === 'status' ? { asks: null } : {}) }, { push: !['q', 'owner', 'tag'].includes(name) });
    this.#moved();
  }

  #moved(back = false) {
    this.#show(back);
    this.asked(this.query);
    this.dispatchEvent(new Event('change'));
  }

  // Nothing is put into a field in which somebody writes, unless one has gone back from there.
  #show(back = false) {
    const given = address.all();
    for (const field of this.querySelectorAll('[name]')) {
      const value = given[field.name] ?? '';
      if (field.type === 'checkbox') field.checked = value !== '';
      else if (field.tagName === 'SELECT') offer(field, value);
      else if (back || field !== document.activeElement) field.value = value;
    }
    this.clear.hidden = !NAMES.some((name) => given[name]);
  }
}

const option = ([value, words]) => h('option', { value }, words);

// A link may ask for what is not on offer.
function offer(select, value) {
  if (![...select.options].some((each) => each.value === value)) select.append(option([value, value.replaceAll(',', ', ')]));
  select.value = value;
}

customElements.define('run-filters', RunFilters);
