// JSON to be read: in colours, and never more of it than one can bear; the rest on request.

import { bytes, count } from './words.js';
import { h, icon } from './dom.js';

const LONG_TEXT = 400;
const MANY = 50;
const LINES = 120;
const TOKEN = /("(?:\\.|[^"\\])*")(\s*:)?|\b(true|false|null)\b|(-?\d[\d.eE+-]*)/g;

/** Return an element that shows a value. */
export function jsonView(value) {
  const whole = JSON.stringify(value, null, 2) ?? 'null';
  const short = JSON.stringify(shorten(value), null, 2) ?? 'null';
  const lines = short.split('\n');
  const cut = short !== whole || lines.length > LINES;
  const pre = h('pre', { class: 'json', tabindex: 0 }, colours(lines.slice(0, LINES).join('\n')));
  const more = cut && h('button', { type: 'button', class: 'link', onclick: () => { pre.replaceChildren(whole); more.remove(); } }, `Show all of it, ${bytes(whole.length)}`);
  const copy = h('button', { type: 'button', class: 'quiet copy', 'aria-label': 'Copy', title: 'Copy', onclick: () => navigator.clipboard?.writeText(whole) }, icon('copy'));
  return h('div', { class: 'json-view' }, pre, copy, more);
}

function shorten(value) {
  if (typeof value === 'string' && value.length > LONG_TEXT) return `${value.slice(0, LONG_TEXT / 2)}… ${count(value.length, 'character')}`;
  if (Array.isArray(value)) return value.length > MANY ? [...value.slice(0, MANY).map(shorten), `… ${value.length - MANY} more`] : value.map(shorten);
  if (value && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, shorten(each)]));
  return value;
}

function colours(words) {
  const parts = [];
  let at = 0;
  for (const match of words.matchAll(TOKEN)) {
    const [all, string, colon, word] = match;
    parts.push(words.slice(at, match.index), h('span', { class: string ? (colon ? 'key' : 'string') : word ? 'word' : 'number' }, string ?? all), colon ?? '');
    at = match.index + all.length;
  }
  return [...parts, words.slice(at)].filter((part) => part !== '');
}
