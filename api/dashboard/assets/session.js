// Who looks at the page, and what that person may do. What may not be done is not shown.

import { read } from './api.js';

const EVERYBODY = { principal: '', role: 'admin', authentication: false };

/** Who is logged in. A server without tokens lets everybody do everything. */
export async function whoAmI() {
  try {
    return await read('/session');
  } catch (problem) {
    if (problem.status === 404) return EVERYBODY;
    throw problem;
  }
}

export const mayStart = (session) => session.role !== 'viewer';

export const mayHalt = (session) => session.role === 'admin';

/** Admins act on every run, operators on their own. */
export const mayAct = (session, run) =>
  !session.authentication || session.role === 'admin' || (session.role === 'operator' && run.owner === session.principal);
