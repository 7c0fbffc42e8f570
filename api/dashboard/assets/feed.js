// The one event stream of a page. While there is none the page is read again and again instead,
// and says so; a hidden page gives its connection away, since a browser has six for a server.

import { request } from './api.js';

const CONNECT_MS = 5_000; // a stream says something at once
const SILENCE_MS = 35_000; // and then every 15 s at least
const POLL_MS = 2_000;
const HIDDEN_AFTER_MS = 20_000;
const HIDDEN_POLL_MS = 15_000;
const SLEPT_MS = 10_000;

/**
 * `state` is one of: `connecting`, `live`, `polling` (no stream, but answers), `offline` (none),
 * `over` (nothing more will happen).
 */
export class Feed {
  state = 'connecting';
  /** When the server was last heard, in milliseconds of our clock. */
  heard = Date.now();
  /** The id of the last event; the stream goes on after it. */
  last = null;
  #options;
  #stream = null;
  #wake = () => {};

  /**
   * path: of the stream. take: is given each event, and how its frame is named. refresh: reads anew
   * all that the page shows. changed: is called when `state` changes.
   * readFirst: the stream does not say by itself (`reset`) that everything must be read.
   */
  constructor({ path, take, refresh, changed, readFirst = false }) {
    this.#options = { path, take, refresh, changed, readFirst };
    document.addEventListener('visibilitychange', () => this.#visibility());
    window.addEventListener('pagehide', () => this.#drop());
    window.addEventListener('pageshow', (event) => event.persisted && this.#renew());
    window.addEventListener('online', () => this.#wake());
    document.addEventListener('resume', () => this.#renew());
    this.#watchForSleep();
  }

  /** Whether what was read is true at present. */
  get isCertain() {
    return ['live', 'polling', 'over'].includes(this.state);
  }

  /** Read and follow, for as long as the page lives or until `finish`. */
  async open() {
    while (this.state !== 'over') {
      try {
        const first = this.#options.readFirst && this.last == null;
        if (first) await this.#refresh();
        if (!document.hidden) await this.#follow(first);
      } catch {
        // Whatever it was, the page is read below, and that says whether anybody answers.
      }
      if (this.state !== 'over') await this.#poll();
    }
  }

  /** Nothing more will happen. */
  finish() {
    this.#become('over');
    this.#drop();
    this.#wake();
  }

  async #poll() {
    const began = Date.now();
    try {
      await this.#refresh();
      if (this.state !== 'over') this.#become('polling');
    } catch {
      if (this.state !== 'over') this.#become('offline');
    }
    // A long list must not be read all the time.
    const pause = Math.max(document.hidden ? HIDDEN_POLL_MS : POLL_MS, 4 * (Date.now() - began));
    await new Promise((resolve) => {
      this.#wake = resolve;
      setTimeout(resolve, pause);
    });
  }

  async #refresh() {
    await this.#options.refresh();
    this.heard = Date.now();
  }

  async #follow(fresh) {
    const stream = (this.#stream = new AbortController());
    let silence;
    const expect = (milliseconds) => {
      clearTimeout(silence);
      silence = setTimeout(() => stream.abort(), milliseconds);
    };
    try {
      expect(CONNECT_MS);
      const headers = { Accept: 'text/event-stream', ...(this.last == null ? {} : { 'Last-Event-ID': this.last }) };
      const response = await request(this.#options.path, { headers, cache: 'no-store', signal: stream.signal, patience: 0 });
      if (fresh) this.#become('live');
      else if (this.last != null) this.#settle();
      for await (const frame of frames(response.body)) {
        expect(SILENCE_MS);
        this.heard = Date.now();
        this.#take(frame);
      }
    } finally {
      clearTimeout(silence);
      this.#stream = null;
    }
  }

  #take({ id, name, data }) {
    if (id) this.last = id;
    if (name === 'reset') this.#settle();
    else if (data) this.#options.take(JSON.parse(data), name);
  }

  // Nothing is called live before it was read since the connection was made. What happens meanwhile
  // is heard; and if it cannot be read, the stream is of no use.
  #settle() {
    const stream = this.#stream;
    this.#refresh().then(() => this.#stream === stream && this.#become('live'), () => stream.abort());
  }

  #become(state) {
    if (this.state === state || this.state === 'over') return;
    this.state = state;
    this.#options.changed(state);
  }

  #drop() {
    this.#stream?.abort();
  }

  // What is shown may be old: say so until it has been read anew.
  #renew() {
    this.#become('connecting');
    this.#drop();
    this.#wake();
  }

  #visibility() {
    if (document.hidden) {
      setTimeout(() => document.hidden && this.#drop(), HIDDEN_AFTER_MS);
    } else if (!this.#stream) {
      this.#renew();
    }
  }

  #watchForSleep() {
    let last = Date.now();
    setInterval(() => {
      if (Date.now() - last > SLEPT_MS && !document.hidden) this.#renew();
      last = Date.now();
    }, 1_000);
  }
}

/** The frames of an event stream: `{ id, name, data }`, each perhaps without some of them. */
async function* frames(body) {
  let rest = '';
  for await (const chunk of chunks(body.pipeThrough(new TextDecoderStream()))) {
    const blocks = (rest + chunk).split('\n\n');
    rest = blocks.pop();
    for (const block of blocks) yield parse(block);
  }
}

function parse(block) {
  const frame = {};
  for (const line of block.split('\n')) {
    const [, field, value] = /^(id|event|data): ?(.*)$/s.exec(line) ?? [];
    if (field) frame[field === 'event' ? 'name' : field] = value;
  }
  return frame;
}

// Not every browser can iterate over a stream itself.
async function* chunks(stream) {
  const reader = stream.getReader();
  try {
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) yield piece.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}
