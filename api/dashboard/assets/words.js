// How things are called: statuses, durations, times, money, events.

export const STATUSES = {
  queued: 'It is recorded, and its code has not begun.',
  running: 'Its code is at work.',
  pausing: 'A pause was asked for. Nothing new starts; what is in flight finishes.',
  paused: 'Nothing of it is in flight, and nothing starts until it is resumed.',
  stopping: 'A stop was asked for. Nothing new starts; it is being brought to rest.',
  succeeded: 'Its code has returned a result.',
  failed: 'Its code has raised an error.',
  stopped: 'It was stopped, and that is proved: every task has exited, every client is closed.',
  timed_out: 'Its deadline has stopped it: every task has exited, every client is closed.',
  abandoned: 'Its code would not exit and was let go. It can start nothing any more.',
  lost: 'Its process died, so its end could not be seen.',
};

export const LIVE = ['queued', 'running', 'pausing', 'paused', 'stopping'];

export const isLive = (status) => LIVE.includes(status);

export const statusWord = (status) => status.replace('_', ' ');

export const MODES = {
  graceful: { does: 'Stop', says: 'What is in flight may finish. Nothing new starts.' },
  now: { does: 'Stop now', says: 'What is in flight is cut, and its connections are closed.' },
  kill: { does: 'Kill', says: 'Its cleanup gets half a second, its processes are killed, and code that does not exit is let go.' },
};

export const stricterModes = (mode) =>
  Object.keys(MODES).slice(Object.keys(MODES).indexOf(mode) + 1);

/** A duration in seconds, as short as it can be said. */
export function span(seconds) {
  if (seconds == null || Number.isNaN(seconds)) return '';
  const s = Math.max(0, seconds);
  if (Number.isInteger(s)) return wholeSpan(s);
  if (s < 0.9995) return `${Math.round(s * 1000)} ms`;
  if (s < 9.995) return `${s.toFixed(2)} s`;
  if (s < 59.95) return `${s.toFixed(1)} s`;
  return wholeSpan(s);
}

/** A duration in whole seconds, for what counts while one looks. */
export function wholeSpan(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  const [m, h, d] = [Math.floor(s / 60), Math.floor(s / 3600), Math.floor(s / 86400)];
  if (m < 60) return `${m} min ${s % 60} s`;
  if (h < 24) return `${h} h ${m % 60} min`;
  return `${d} d ${h % 24} h`;
}

export function age(seconds) {
  if (seconds < 5) return 'just now';
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

const CLOCK = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' });
const DAY = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });

export const seconds = (at) => Date.parse(at) / 1000;

export const clock = (at) => CLOCK.format(new Date(at));

export const clockExact = (at) => `${clock(at)}.${String(new Date(at).getMilliseconds()).padStart(3, '0')}`;

export const dayAndClock = (at) => `${DAY.format(new Date(at))}, ${clock(at)}`;

export function money(dollars) {
  if (!dollars) return '$0';
  if (dollars < 0.01) return `$${dollars.toPrecision(2)}`;
  return `$${dollars.toFixed(2)}`;
}

export const count = (n, one, many = `${one}s`) => `${n.toLocaleString('en-GB')} ${n === 1 ? one : many}`;

export function bytes(n) {
  if (n < 1000) return `${n} B`;
  if (n < 1e6) return `${(n / 1e3).toFixed(1)} kB`;
  return `${(n / 1e6).toFixed(1)} MB`;
}

export const shortId = (id) => id.replace(/^run_/, '').slice(0, 8);

/** Whose run it is; of a server that knows nobody, nobody's. */
export const ownerOf = (run) => (run.owner === 'anonymous' ? '' : (run.owner ?? ''));

/** Who asked for something, in words. */
export function who(stop) {
  const by = stop.requested_by && stop.requested_by !== 'anonymous' ? stop.requested_by : '';
  const sources = {
    user: by || 'a person', admin: by || 'the orchestrator', deadline: 'its deadline',
    idle: 'its idle limit', parent: 'its parent', superseded: 'a later run',
    disconnect: 'its caller leaving', shutdown: 'a shutdown', halt: by ? `${by}'s halt` : 'a halt',
  };
  return sources[stop.source] ?? stop.source;
}

const MEANINGS = {
  'run.queued': (d) => `${d.agent} is queued`,
  'run.started': (d) => (d.attempt > 1 ? `attempt ${d.attempt} begins, after a crash` : 'its code begins'),
  'run.progress': (d) => `${Math.round(d.percent)} % ${d.message}`,
  'run.log': (d) => d.message,
  'run.partial': (d) => `partial result, ${bytes(d.size)}`,
  'run.artifact': (d) => `file ${d.name}, ${bytes(d.size)}`,
  'run.pausing': (d) => `pause asked for${by(d)}${because(d)}`,
  'run.paused': () => 'paused: nothing is in flight',
  'run.resumed': (d) => (d.step ? `one step${by(d)}` : `goes on${by(d)}`),
  'run.asked': (d) => `asks: ${d.question}`,
  'run.answered': (d) => `answered: ${JSON.stringify(d.answer)}${by({ requested_by: d.answered_by })}`,
  'run.withdrawn': () => 'the question waits no more',
  'run.deadline': (d) => (d.deadline_at ? `deadline moved to ${clock(d.deadline_at)}${by(d)}` : `deadline taken away${by(d)}`),
  'run.tagged': (d) => `tags are now ${d.tags.join(', ') || 'none'}${by(d)}`,
  'run.stopping': (d) => `stop asked for by ${who(d)}: ${d.mode}${d.mode === 'graceful' ? `, ${span(d.grace_s)} of grace` : ''}${because(d)}`,
  'run.escalated': (d) => `goes up to ${d.mode}, by ${d.by}${because(d)}`,
  'step.finished': (d) => `step ${d.name}, ${d.reused ? 'reused' : span(d.seconds)}`,
  'operation.started': (d) => `${d.kind} ${d.label}`,
  'operation.finished': (d) => `${d.kind} ${d.label}: ${d.error ?? `done in ${span(d.seconds)}`}`,
  'operation.cut': (d) => `${d.kind} ${d.label}: cut after ${span(d.seconds)}${d.effect ? `, ${d.effect}` : ''}`,
  'operation.refused': (d) => `${d.kind} ${d.label}: refused, since a stop was asked for`,
  'llm.delta': (d) => d.text,
};

const by = (d) => (d.requested_by && d.requested_by !== 'anonymous' ? ` by ${d.requested_by}` : '');
const because = (d) => (d.reason ? `: ${d.reason}` : '');

/** What an event says, in one line. */
export function describe(event) {
  const known = MEANINGS[event.type];
  if (known) return known(event.data);
  if (event.data?.status && event.type === `run.${event.data.status}`) return describeEnd(event.data);
  return JSON.stringify(event.data);
}

function describeEnd({ status, error, receipt }) {
  const word = statusWord(status);
  if (error) return `${word}: ${error.type}: ${error.message}`;
  return receipt?.seconds != null ? `${word}, ${span(receipt.seconds)} after it was asked for` : word;
}

/** The families of events that a log can show or leave out. */
export const FAMILIES = {
  life: 'Lifecycle', operation: 'Operations', log: 'Log lines', step: 'Steps', data: 'Results', own: 'Own events',
};

const DATA = ['run.partial', 'run.artifact', 'run.progress'];

export function familyOf(event) {
  if (event.type === 'run.log') return 'log';
  if (DATA.includes(event.type)) return 'data';
  const family = event.type.split('.')[0];
  if (family === 'run') return 'life';
  return family === 'operation' || family === 'step' ? family : 'own';
}
