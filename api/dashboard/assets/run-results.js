// What a run has brought: its result or what there is so far, its files, and its latest picture.

import { read } from './api.js';
import { fill, h, icon, show, text, throttled } from './dom.js';
import { jsonView } from './json-view.js';
import { bytes, isLive } from './words.js';

const AGAIN_MS = 2_000;

class RunResults extends HTMLElement {
  #partials = 0;
  #files = 0;
  #asks = false;
  #picture = null;

  open(page) {
    this.page = page;
    this.heading = h('h2');
    this.body = h('div');
    this.picture = h('img', { alt: 'The latest picture of what the run is doing' });
    // It is gone, with what was thrown away.
    this.picture.addEventListener('error', () => show(this.view, false));
    this.view = h('figure', { class: 'card view', hidden: true }, h('figcaption', {}, 'Live view'), this.picture);
    this.files = h('ul', { class: 'files' });
    this.filed = h('section', { class: 'card', 'aria-label': 'Files', hidden: true }, h('h2', {}, 'Files'), this.files);
    this.append(this.view, h('section', { class: 'card', id: 'results', tabindex: -1, 'aria-label': 'Results' }, this.heading, this.body), this.filed);
    this.partial = throttled(1_000, () => this.#readPartial());
  }

  show(run, { tree }) {
    const { partials = 0, files = 0, picture = null } = tree.nodes.get(run.id) ?? {};
    if (partials !== this.#partials && isLive(run.status) && this.page.caughtUp) this.partial();
    this.#partials = partials;
    // With its end they may have been thrown away.
    const until = isLive(run.status) ? '' : '-over';
    this.#showFiles(run, files && `${files}${until}`);
    this.#showPicture(picture, until);
    const [title, value] = found(run);
    text(this.heading, title);
    fill(this.body, `${title} ${JSON.stringify(value)} ${run.error?.message}`, () => this.#body(run, value));
    show(this.body.parentElement, value != null || !isLive(run.status));
  }

  #body(run, value) {
    if (run.error) return [h('p', { class: 'refused' }, h('strong', {}, run.error.type), `: ${run.error.message}`), run.error.traceback && h('details', {}, h('summary', {}, icon('chevron'), 'Traceback'), h('pre', { class: 'json' }, run.error.traceback)), value != null && jsonView(value)];
    return value == null ? h('p', { class: 'hint' }, 'None.') : jsonView(value);
  }

  async #readPartial() {
    const { id, runs } = this.page;
    const partial = await read(`/runs/${id}/partial`).catch(() => null);
    if (partial != null && isLive(runs.get(id).status)) runs.amend(id, { partial });
  }

  // That of a sub-agent too: what a playbook does is seen in its browser.
  #showPicture(picture, until) {
    const seen = picture && `${picture.seq}${until}`;
    if (seen === this.#picture || !this.page.caughtUp) return;
    this.#picture = seen;
    show(this.view, true);
    // The number makes it another address: a picture is read anew only then.
    this.picture.src = `/runs/${picture.id}/view?seen=${seen}`;
  }

  // Asked for only when an event has said that there are some.
  async #showFiles(run, kept) {
    if (kept === this.#files || this.#asks || !this.page.caughtUp) return;
    this.#asks = true;
    const answer = await read(`/runs/${run.id}/artifacts`).catch(() => null);
    this.#asks = false;
    if (!answer) {
      setTimeout(() => this.#showFiles(run, kept), AGAIN_MS);
      return;
    }
    this.#files = kept;
    const others = answer.artifacts.filter(({ name }) => name !== 'view');
    show(this.filed, others.length > 0);
    this.files.replaceChildren(...others.map(({ name, size, media_type }) => h('li', {}, icon('file'),
      h('a', { href: `/runs/${run.id}/artifacts/${encodeURIComponent(name)}`, target: '_blank', rel: 'noopener' }, name), h('span', { class: 'hint' }, `${bytes(size)}, ${media_type}`))));
  }
}

function found(run) {
  if (run.status === 'succeeded') return ['Result', run.result];
  if (isLive(run.status)) return ['So far', run.partial];
  return [run.partial == null ? 'Result' : 'Partial result', run.partial];
}

customElements.define('run-results', RunResults);
