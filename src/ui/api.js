// Calls of the API. The cookie proves who asks; the session's csrfToken, which no other page can read, proves that it is us.
import { readSetting, state, update, writeSetting } from './state.js';

export class ApiError extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const root = new URL('api/v1/', document.baseURI);

/** @param {string} path */
export const url = (path) => new URL(path, root).href;

/** @param {string} path @param {RequestInit} [options] @returns {Promise<any>} */
async function call(path, options = {}) {
  const headers = new Headers(options.headers);
  if (state.session) headers.set('X-Replyvault-Csrf', state.session.csrfToken);
  let response;
  try {
    response = await fetch(url(path), { ...options, headers });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError(0, 'replyvault does not answer');
  }
  if (response.status === 401 && state.phase === 'ready') {
    state.session = null;
    state.phase = 'login';
    state.loginError = 'The session is over.';
    update();
  }
  const text = await response.text();
  let body = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    // A proxy's page, perhaps.
  }
  if (!response.ok) throw new ApiError(response.status, body?.error?.message ?? `the answer was ${response.status}`);
  return body;
}

/** @param {string} path @param {AbortSignal} [signal] */
export const get = (path, signal) => call(path, { signal });
/** @param {string} path @param {any} [body] */
export const post = (path, body) =>
  call(path, { method: 'POST', body: body === undefined ? undefined : JSON.stringify(body), headers: { 'Content-Type': 'application/json' } });
/** @param {string} path */
export const remove = (path) => call(path, { method: 'DELETE' });

/** @param {string} id */
export const jobPath = (id) => `jobs/${encodeURIComponent(id)}`;
/** @param {string} sha256 */
export const contentUrl = (sha256) => url(`media/${sha256}/content`);
/** @param {string} sha256 */
export const thumbnailUrl = (sha256) => url(`media/${sha256}/thumbnail`);

/** @param {string} sha256 @param {Blob} still */
export const keepThumbnail = (sha256, still) => call(`media/${sha256}/thumbnail`, { method: 'POST', body: still });

/** @param {string} token */
export async function openSession(token) {
  state.session = await call('session', { method: 'POST', headers: { Authorization: `Bearer ${token}` } });
  writeSetting('session', 'yes');
}

/** Whether there is a session from before. */
export async function findSession() {
  // The cookie cannot be read by scripts. That there was one is remembered, so that nobody is refused in vain.
  if (readSetting('session', 'no') !== 'yes') return false;
  const response = await fetch(url('session'), { headers: { Accept: 'application/json' } });
  if (response.ok) state.session = await response.json();
  else writeSetting('session', 'no');
  return response.ok;
}

export const isAdmin = () => state.session?.scope === 'admin';

/** The query of a list. @param {Record<string, string | number | undefined>} parameters */
export function query(parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) if (value !== undefined && value !== '') query.set(name, String(value));
  return query.toString();
}

/** Does something to many, a few at a time. @template T @param {T[]} items @param {(item: T) => Promise<any>} act */
export async function forAll(items, act) {
  let failed = 0;
  const waiting = [...items];
  const work = async () => {
    for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) {
      try {
        await act(item);
      } catch {
        failed += 1;
      }
    }
  };
  await Promise.all([work(), work(), work(), work()]);
  return { done: items.length - failed, failed };
}
