// Logging in: the token is sent once, and the browser keeps a cookie that no script can read.

import { send } from './api.js';
import { show } from './dom.js';

const form = document.querySelector('#login');
const refused = document.querySelector('#refused');

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  show(refused, false);
  try {
    await send('POST', '/session', { token: form.token.value.trim() });
    location.assign(next());
  } catch (problem) {
    refused.textContent = problem.status === 401 ? 'This token is not known here.' : `That failed: ${problem.message}.`;
    show(refused, true);
    form.token.select();
  }
});

// Only ever a place of our own, whatever the address says.
function next() {
  const wanted = new URL(new URLSearchParams(location.search).get('next') ?? '/', location.origin);
  return wanted.origin === location.origin ? wanted.pathname + wanted.search + wanted.hash : '/';
}
