// What every page has: the state of its connection, the preferences, and who is logged in.

import { send } from './api.js';
import { h, icon, show, text } from './dom.js';
import { mayAct, whoAmI } from './session.js';
import { announce, toast } from './toasts.js';
import { clock } from './words.js';

const STATES = {
  connecting: ['Connecting…', 'What you see may be out of date until the server has answered.'],
  live: ['Live', 'Changes are shown as they happen.'],
  polling: ['Not live', 'The event stream is down, so this is read every few seconds. Stopping works.'],
  offline: ['No connection', 'The server does not answer. This is what was known last.'],
  over: ['Complete', 'The run has ended: nothing more will happen.'],
};

class ConnectionState extends HTMLElement {
  #word = h('span');
  #since = h('span', { class: 'since' });

  connectedCallback() {
    this.append(h('span', { class: 'dot' }), this.#word, this.#since);
    this.show({ state: 'connecting' });
  }

  /** Mark the page as well: what is not known to be true looks so. */
  show(feed) {
    const [word, says] = STATES[feed.state];
    const was = document.documentElement.dataset.connection;
    document.documentElement.dataset.connection = feed.state;
    text(this.#word, word);
    text(this.#since, feed.state === 'offline' ? ` since ${clock(feed.heard)}` : '');
    this.title = says;
    if (was && was !== feed.state && ['polling', 'offline'].includes(feed.state)) announce(`${word}. ${says}`);
    if (['polling', 'offline'].includes(was) && feed.state === 'live') announce('Live again');
  }
}

class PageSettings extends HTMLElement {
  connectedCallback() {
    const theme = h('select', { id: 'theme', onchange: () => this.#theme(theme.value) },
      h('option', { value: '' }, 'As the system'), h('option', { value: 'light' }, 'Light'), h('option', { value: 'dark' }, 'Dark'));
    theme.value = document.documentElement.dataset.theme ?? '';
    const keys = h('input', { type: 'checkbox', id: 'keys', onchange: () => remember('keys', keys.checked ? '' : 'off') });
    keys.checked = shortcutsAreOn();
    this.who = h('p', { class: 'who', hidden: true });
    this.append(h('details', { class: 'menu' },
      h('summary', { 'aria-label': 'Settings', title: 'Settings' }, icon('gear')),
      h('div', { class: 'sheet' }, this.who, h('label', { for: 'theme' }, 'Appearance'), theme,
        h('label', { class: 'check' }, keys, 'Keyboard shortcuts'),
        h('p', { class: 'hint' }, h('kbd', {}, 's'), ' opens the stop panel, ', h('kbd', {}, '/'), ' goes to the search.'))));
  }

  /** Show who is logged in, and how to leave. */
  set session(session) {
    if (!session.authentication) return;
    this.who.replaceChildren(h('strong', {}, session.principal), ` (${session.role}) `,
      h('button', { type: 'button', class: 'link', onclick: leave }, 'Log out'));
    show(this.who, true);
  }

  #theme(chosen) {
    remember('theme', chosen);
    if (chosen) document.documentElement.dataset.theme = chosen;
    else delete document.documentElement.dataset.theme;
  }
}

/** Show the state of a feed, and let nothing be offered that depends on what may be out of date. */
export function showFeed(feed, runs) {
  runs.certain = feed.isCertain;
  document.querySelector('connection-state').show(feed);
}

/** Return what reads who is logged in, until it is known, and shows what that person may do. */
export function greeter({ runs }, known = () => {}) {
  const greet = async () => {
    const session = await whoAmI();
    runs.mayAct = (run) => mayAct(session, run);
    document.querySelector('page-settings').session = session;
    document.querySelector('halt-switch').session = session;
    known(session);
  };
  // Once, however many ask for it meanwhile: what is known opens forms, which people fill in.
  let greeting = null;
  return () => (greeting ??= greet().catch((problem) => {
    greeting = null;
    throw problem;
  }));
}

async function leave() {
  try {
    await send('DELETE', '/session');
    location.assign('/dashboard/login');
  } catch (problem) {
    toast(`You are still logged in: ${problem.message}.`, { kind: 'error', action: { label: 'Try again', call: leave } });
  }
}

function remember(name, value) {
  try {
    if (value) localStorage.setItem(name, value);
    else localStorage.removeItem(name);
  } catch {
    // It is forgotten with the page, then.
  }
}

/** Whether single keys may act; who speaks to the computer turns them off. */
export function shortcutsAreOn() {
  try {
    return localStorage.getItem('keys') !== 'off';
  } catch {
    return true;
  }
}

/** Call when a key is pressed by itself, and not into a field or a dialog. */
export function onKey(key, call) {
  document.addEventListener('keydown', (event) => {
    if (event.key !== key || event.ctrlKey || event.metaKey || event.altKey || !shortcutsAreOn()) return;
    if (event.target.closest('input, textarea, select, dialog[open], [contenteditable]')) return;
    if (call(event) !== false) event.preventDefault();
  });
}

// A menu closes when one looks elsewhere.
document.addEventListener('pointerdown', (event) => {
  document.querySelectorAll('details.menu[open]').forEach((menu) => menu.contains(event.target) || (menu.open = false));
});
document.addEventListener('keydown', (event) => {
  const menu = event.key === 'Escape' && event.target.closest?.('details.menu[open]');
  if (!menu) return;
  menu.open = false;
  menu.querySelector('summary').focus();
});

customElements.define('connection-state', ConnectionState);
customElements.define('page-settings', PageSettings);
