// What a person can do. Each shows at once what it will come to, and takes that back if it fails.

import { now, Problem, read, send } from './api.js';
import { announce, toast } from './toasts.js';
import { count, MODES } from './words.js';

const AT_ONCE = 1_000; // the server takes no more ids in one call

const nameOf = (run) => `${run.agent} ${run.id}`;

// What a person reads of a call that failed; without an answer it may have been carried out.
const failure = (what, failed, problem) =>
  problem.status === 0 ? `No answer from the server: whether this reached ${what} is not known.` : `${what} ${failed}: ${problem.message}.`;

export class Actions {
  #runs;

  constructor(runs) {
    this.#runs = runs;
  }

  /** Stop a run and everything below it, or make its stop stricter. */
  async stop(run, order) {
    const harder = run.status === 'stopping';
    const stop = { ...run.stop, ...order, requested_at: run.stop?.requested_at ?? new Date(now() * 1000).toISOString(), source: 'user', outcome: 'stopping' };
    announce(`Stopping ${nameOf(run)}`);
    const answer = await this.#act(run, { status: 'stopping', stop }, `/runs/${run.id}/stop`, order, {
      failed: harder ? 'could not be stopped harder' : 'could not be stopped',
      again: () => this.stop(run, order),
    });
    if (answer && !harder) toast(`${MODES[order.mode].does === 'Stop' ? 'Stopping' : MODES[order.mode].does}: ${nameOf(run)}`);
  }

  pause(run) {
    return this.#act(run, { status: 'pausing' }, `/runs/${run.id}/pause`, {}, { failed: 'could not be paused' });
  }

  resume(run) {
    return this.#act(run, { status: 'running' }, `/runs/${run.id}/resume`, {}, { failed: 'could not be resumed' });
  }

  step(run) {
    return this.#act(run, {}, `/runs/${run.id}/step`, {}, { failed: 'could not make a step' });
  }

  /** Answer a question. Throws the problem if the answer does not fit. */
  async answer(run, order) {
    const answered = await this.#act(run, { waiting_for: null }, `/runs/${run.id}/answer`, order, { failed: 'could not be answered', throws: 422 });
    if (answered) announce('Answered');
  }

  /** Start a new run with the input of one that has ended, and go there. */
  async rerun(run, fromStep) {
    const made = await this.#act(run, {}, `/runs/${run.id}/rerun`, fromStep ? { from_step: fromStep } : {}, { failed: 'could not be started again' });
    if (made) location.assign(`/dashboard/runs/${made.id}`);
  }

  /** Remove a run that has ended, and go to those that are left. */
  async remove(run) {
    try {
      await send('DELETE', `/runs/${run.id}`);
    } catch (problem) {
      if (problem.status !== 404) {
        toast(failure(nameOf(run), 'could not be deleted', problem), { kind: 'error', action: { label: 'Try again', call: () => this.remove(run) } });
        return;
      }
    }
    location.assign('/');
  }

  /**
   * Stop many. Each is shown as stopping at once; those that are refused are shown as they are.
   * Returns the results; if some could not be asked for, `again` is called with those on request.
   */
  async stopMany(runs, order, again) {
    const results = [];
    const takeBack = runs.map((run) => this.#runs.expect(run.id, { status: 'stopping', stop: { ...order, outcome: 'stopping', source: 'user' } }));
    announce(`Stopping ${count(runs.length, 'run')}`);
    try {
      for (let n = 0; n < runs.length; n += AT_ONCE) results.push(...(await this.#stopSome(runs.slice(n, n + AT_ONCE), order)));
    } catch (problem) {
      const asked = new Set(results.map((result) => result.run_id));
      const left = runs.filter((run) => !asked.has(run.id));
      const what = `${count(left.length, 'run')}${left.length < runs.length ? ` of ${runs.length}` : ''}`;
      toast(failure(what, 'could not be stopped', problem), { kind: 'error', action: { label: 'Try again', call: () => again(left) } });
    } finally {
      takeBack.forEach((each) => each());
    }
    return results;
  }

  async #stopSome(runs, order) {
    const moment = this.#runs.moment;
    const { results } = await send('POST', '/runs/stop', { ids: runs.map((run) => run.id), ...order });
    results.forEach((result) => result.run && this.#runs.put(result.run, moment));
    return results;
  }

  /** Read a run anew. One that is gone is forgotten. */
  async refresh(id) {
    const moment = this.#runs.moment;
    try {
      this.#runs.put(await read(`/runs/${id}`), moment);
    } catch (problem) {
      if (problem.status === 404) this.#runs.forget(id);
      else throw problem;
    }
  }

  async #act(run, change, path, order, { failed, again, throws }) {
    const takeBack = this.#runs.expect(run.id, change);
    const moment = this.#runs.moment;
    try {
      const answer = await send('POST', path, order);
      const acted = answer.run ?? answer;
      if (acted.id === run.id) this.#runs.put(acted, moment);
      return answer;
    } catch (problem) {
      if (problem instanceof Problem && problem.status === throws) throw problem;
      await this.#refused(problem, run, failed, again);
      return null;
    } finally {
      takeBack();
    }
  }

  async #refused(problem, run, failed, again) {
    // Somebody was faster, or the run was: what it is now says all there is to say.
    const seen = this.refresh(run.id).catch(() => {});
    if (problem.isBehind) return seen;
    if (problem.kind === 'stop-not-durable') {
      toast(`${nameOf(run)} is being stopped, but that is not stored yet: a crash now could forget it. Stop it again in a while.`, { kind: 'error' });
      return seen;
    }
    const action = again && { label: 'Try again', call: again };
    toast(failure(nameOf(run), failed, problem), { kind: 'error', action });
    return undefined;
  }
}
