// Making and patching elements. Text is only ever set as text, never as HTML.

const SVG = 'http://www.w3.org/2000/svg';
const ICONS = new URL('icons.svg', import.meta.url).href;

function dress(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value == null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'data') Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

/** Make an element: `h('p', { class: 'note', onclick }, 'text', child)`. */
export const h = (tag, properties, ...children) => dress(document.createElement(tag), properties, children);

/** Make an element of SVG. */
export const s = (tag, properties, ...children) => dress(document.createElementNS(SVG, tag), properties, children);

/** An icon of the sprite; whatever it means must be said in words beside it. */
export const icon = (name) =>
  s('svg', { class: `icon icon-${name}`, 'aria-hidden': 'true', viewBox: '0 0 16 16' }, s('use', { href: `${ICONS}#${name}` }));

/** Set a text, if it is another one: a reader of screens is not told of what has not changed. */
export function text(node, value) {
  const said = value == null ? '' : String(value);
  if (node.textContent !== said) node.textContent = said;
  return node;
}

/** Set an attribute, if it is another one; null takes it away. */
export function attribute(node, name, value) {
  if (value == null || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value === true ? '' : value)) {
    node.setAttribute(name, value === true ? '' : value);
  }
}

export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

/** Replace the children, if the key of what they show has changed. */
export function fill(node, key, make) {
  if (node.filledWith === key) return;
  node.filledWith = key;
  const focused = node.contains(document.activeElement);
  node.replaceChildren(...[make()].flat().filter(Boolean));
  if (!focused) return;
  // What had the focus is gone; the keyboard must not begin at the top of the page again. But it
  // rests on nothing that could be pressed: a key that is pressed twice was meant for what is gone.
  node.tabIndex = -1;
  node.focus({ preventScroll: true });
}

/** Text with its web addresses as links. */
export function linkify(words) {
  return words.split(/(https?:\/\/[^\s<>"')\]]+)/).map((part, n) =>
    n % 2 ? h('a', { href: part, target: '_blank', rel: 'noopener noreferrer' }, part) : part);
}

/** Call at most once in so many milliseconds, the last time included. */
export function throttled(milliseconds, call) {
  let waiting = null;
  let last = 0;
  return () => {
    if (waiting != null) return;
    const left = Math.max(0, last + milliseconds - Date.now());
    waiting = setTimeout(() => {
      waiting = null;
      last = Date.now();
      call();
    }, left);
  };
}

/** Parameters of the address, in which everything stands that a link should show again. */
export const address = {
  get: (name) => new URLSearchParams(location.search).get(name),
  all: () => Object.fromEntries(new URLSearchParams(location.search)),
  set(changes, { push = false } = {}) {
    const parameters = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(changes)) {
      if (value == null || value === '') parameters.delete(name);
      else parameters.set(name, value);
    }
    const query = parameters.toString();
    const url = location.pathname + (query ? `?${query}` : '') + location.hash;
    if (url === location.pathname + location.search + location.hash) return;
    history[push ? 'pushState' : 'replaceState'](null, '', url);
  },
};
