// What an event says of its run. Pure: the one place that knows it.

const STATUS = {
  'run.queued': 'queued', 'run.started': 'running', 'run.pausing': 'pausing',
  'run.paused': 'paused', 'run.resumed': 'running', 'run.stopping': 'stopping',
};

const CHANGES = {
  'run.queued': (run, event) => ({
    root_id: event.root_id, agent: event.data.agent, parent_id: event.data.parent_id,
    created_at: run.created_at ?? event.at,
  }),
  'run.started': (run, event) => ({
    agent: event.data.agent, attempt: event.data.attempt, started_at: run.started_at ?? event.at,
  }),
  'run.progress': (run, event) => ({ progress: event.data }),
  'run.deadline': (run, event) => ({ deadline_at: event.data.deadline_at }),
  'run.tagged': (run, event) => ({ tags: event.data.tags }),
  'run.asked': (run, event) => (open(run).some(isThatOf(event)) ? null : waitingFor([...open(run), { ...event.data, asked_at: event.at }])),
  'run.answered': answered,
  'run.withdrawn': answered,
  'run.stopping': (run, event) => ({
    stop: { ...event.data, requested_at: event.at, previous_status: run.status, outcome: 'stopping', also: [] },
    ...waitingFor([]),
  }),
  'run.escalated': (run, event) => ({ stop: { ...run.stop, mode: event.data.mode } }),
};

// A run may ask several things at once; it is shown to wait for the oldest that nobody has answered.
const open = (run) => run.questions ?? (run.waiting_for ? [run.waiting_for] : []);
const waitingFor = (questions) => ({ questions, waiting_for: questions[0] ?? null });
const isThatOf = (event) => (question) => question.question_id === event.data.question_id;

function answered(run, event) {
  return open(run).some(isThatOf(event)) ? waitingFor(open(run).filter((each) => !isThatOf(event)(each))) : null;
}

/** What changes in a run by an event: an object of fields, or null for nothing. */
export function reduce(run, event) {
  if (isEnding(event)) return ended(event);
  const status = STATUS[event.type];
  const change = CHANGES[event.type]?.(run, event);
  return status ? { status, ...change } : (change ?? null);
}

/** Whether it is a run's last event. */
export const isEnding = (event) => event.data?.status !== undefined && event.type === `run.${event.data.status}`;

function ended(event) {
  const { status, result, error, receipt } = event.data;
  return { status, result, error, stop: receipt, ended_at: event.at, ...waitingFor([]) };
}
