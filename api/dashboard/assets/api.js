// Asking the server, and what its refusals mean.

const PATIENCE_MS = 15_000;

// Refusals of a page that was behind. Other conflicts are news to whoever has pressed a button.
const BEHIND = ['run-ended', 'illegal-transition', 'nobody-asks'];

/** A call that was refused (`status` 400 to 599), or that got no answer (`status` 0). */
export class Problem extends Error {
  constructor(status, detail, body = {}) {
    super(detail);
    this.status = status;
    this.body = body;
    this.kind = (body.type ?? '').replace('urn:quiesce:', '');
    this.errors = body.errors ?? [];
  }

  /** Nothing is wrong: the page was behind, and what it asked for is over or gone. */
  get isBehind() {
    return this.status === 404 || BEHIND.includes(this.kind);
  }
}

// The server's clock as seen from ours, in milliseconds: countdowns must not be wrong with ours.
let ahead = 0;

/** The time at the server, in seconds since 1970. */
export const now = () => (Date.now() + ahead) / 1000;

function noteClock(response) {
  const told = Date.parse(response.headers.get('Date') ?? '');
  // The header has whole seconds: a smaller difference says nothing.
  if (!Number.isNaN(told)) ahead = Math.abs(told - Date.now()) > 2_000 ? told + 500 - Date.now() : 0;
}

/** Send a request and return the response; throws a `Problem`. */
export async function request(path, { signal, patience = PATIENCE_MS, ...options } = {}) {
  const limits = [signal, patience && AbortSignal.timeout(patience)].filter(Boolean);
  let response;
  try {
    response = await fetch(path, { credentials: 'same-origin', ...options, signal: AbortSignal.any(limits) });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, 'the server does not answer');
  }
  noteClock(response);
  if (response.ok || response.status === 304) return response;
  if (response.status === 401) goToLogin();
  const body = await response.json().catch(() => ({}));
  throw new Problem(response.status, body.detail ?? response.statusText, body);
}

function goToLogin() {
  if (document.body.dataset.page === 'login') return;
  const here = location.pathname + location.search + location.hash;
  location.assign(`/dashboard/login?next=${encodeURIComponent(here)}`);
}

const tagged = new Map();

/** Read JSON. What has an ETag is sent once: afterwards the server says that it is the same. */
export async function read(path, { signal } = {}) {
  const known = tagged.get(path);
  const headers = { Accept: 'application/json', ...(known ? { 'If-None-Match': known.tag } : {}) };
  const response = await request(path, { signal, headers, cache: 'no-store' });
  if (response.status === 304) return known.body;
  const body = await response.json();
  tagged.delete(path);
  if (response.headers.has('ETag')) tagged.set(path, { tag: response.headers.get('ETag'), body });
  if (tagged.size > 50) tagged.delete(tagged.keys().next().value);
  return body;
}

/** Send JSON, or a form with files, and return the answer's JSON. */
export async function send(method, path, body, headers = {}) {
  const form = body instanceof FormData;
  const response = await request(path, {
    method,
    // What stands between the parts of a form only the browser knows.
    headers: { ...(form ? {} : { 'Content-Type': 'application/json' }), ...headers },
    body: form || body === undefined ? body : JSON.stringify(body),
    ...(form ? { patience: 0 } : {}), // files may take their time
  });
  return response.status === 204 ? null : response.json();
}

/** Read a list page by page, in brief; `each` gets a page and may return false to have enough. */
export async function readPages(query, each) {
  let after = null;
  do {
    const parameters = new URLSearchParams({ limit: 500, brief: true, ...query });
    if (after) parameters.set('after', after);
    const page = await read(`/runs?${parameters}`);
    if (each(page.runs) === false) return;
    after = page.next;
  } while (after);
}
