// The jobs that are shown: read by pages as they come into view, kept up to date by the stream of events.
import { get, query, url } from './api.js';
import { state, update } from './state.js';

/** @typedef {import('./types').Job} Job */

const PAGE = 60;
const MAX_PAGES = 60;
const MIN_RETRY_MS = 2000;
const MAX_RETRY_MS = 30_000;

/** @type {Map<number, {ids: string[], stale: boolean, loading: boolean, used: number, after: number}>} */
const pages = new Map();
/** @type {Map<string, Job>} */
const jobs = new Map();
let generation = 0;
let tick = 0;
/** @type {AbortController} */
let calls = new AbortController();

/** @param {string} id */
export const known = (id) => jobs.get(id);

/** @param {Job} job */
export function remember(job) {
  jobs.set(job.jobId, job);
}

/** The filters as the API takes them. A word that may be half typed stands for all that begin so. */
function filters() {
  const { q = '', ...rest } = state.filters;
  const last = q.split(/\s+/).pop() ?? '';
  const open = /[\p{L}\p{N}]{3,}$/u.test(last) && !q.endsWith('"');
  return { ...rest, q: open ? `${q}*` : q.replaceAll('"', ' ') };
}

/** The job at a place, counted from the newest on; asks for it when it is not there. @param {number} index */
export function jobAt(index) {
  const number = Math.floor(index / PAGE);
  const page = pages.get(number);
  tick += 1;
  if (page) page.used = tick;
  if (!page || (page.stale && !page.loading && Date.now() >= page.after)) load(number);
  const id = page?.ids[index - number * PAGE];
  return id === undefined ? undefined : jobs.get(id);
}

/** Where a job is among those that are loaded. @param {string} id */
export function indexOf(id) {
  for (const [number, { ids }] of pages) {
    const at = ids.indexOf(id);
    if (at >= 0) return number * PAGE + at;
  }
  return -1;
}

/** @param {number} number */
async function load(number) {
  const of = generation;
  const page = pages.get(number) ?? { ids: [], stale: false, loading: false, used: tick, after: 0 };
  page.loading = true;
  pages.set(number, page);
  try {
    /** @type {string[]} */
    const ids = [];
    // A page may have fewer than asked for: its bytes are bounded, too.
    for (let cursor; ids.length < PAGE; ) {
      const rest = cursor ? { cursor } : { skip: number * PAGE };
      const answer = await get(`jobs?${query({ ...filters(), limit: PAGE - ids.length, ...rest })}`, calls.signal);
      for (const job of answer.items) {
        jobs.set(job.jobId, job);
        ids.push(job.jobId);
      }
      cursor = answer.nextCursor;
      if (!cursor) break;
    }
    if (of !== generation) return;
    page.ids = ids;
    page.stale = false;
    state.error = null;
  } catch (error) {
    if (of !== generation || calls.signal.aborted) return;
    state.error = error.message;
    page.stale = true;
    page.after = Date.now() + 2500;
    setTimeout(update, 3000);
  } finally {
    page.loading = false;
  }
  forget();
  update();
}

/** Keeps what was looked at last. */
function forget() {
  while (pages.size > MAX_PAGES) {
    let oldest = -1;
    for (const [number, page] of pages) if (oldest < 0 || page.used < (pages.get(oldest)?.used ?? 0)) oldest = number;
    const gone = pages.get(oldest);
    pages.delete(oldest);
    for (const id of gone?.ids ?? []) if (!state.selected.has(id) && id !== state.jobId) jobs.delete(id);
  }
}

/** The generation that a count runs for. */
let countGeneration = -1;
/** Whether something changed since the count began. */
let countAgain = false;
let countTimer = 0;

/** Counts, one count at a time. @returns {Promise<void>} */
async function count() {
  if (countGeneration === generation) {
    countAgain = true;
    return;
  }
  const of = generation;
  countGeneration = of;
  countAgain = false;
  await countDays();
  if (of !== generation) return;
  countGeneration = -1;
  if (countAgain) count();
}

/** Reads how many there are a day. */
async function countDays() {
  const of = generation;
  try {
    const days = [];
    let cursor;
    do {
      const answer = await get(`jobs/days?${query({ ...filters(), cursor })}`, calls.signal);
      if (of !== generation) return;
      for (const day of answer.items) {
        const last = days.at(-1);
        if (last?.day === day.day) last.jobs += day.jobs;
        else days.push(day);
      }
      cursor = answer.nextCursor;
      // What is shown already is better than a part.
      if (state.counting && cursor && days.length) show(days);
    } while (cursor);
    show(days);
    state.counting = false;
    state.error = null;
  } catch (error) {
    if (of !== generation || calls.signal.aborted) return;
    state.error = error.message;
    clearTimeout(countTimer);
    countTimer = window.setTimeout(count, 2000);
  }
  update();
}

/** @param {{day: string, jobs: number}[]} days */
function show(days) {
  state.days = days.slice();
  state.total = days.reduce((sum, { jobs }) => sum + jobs, 0);
  update();
}

/** Reads everything anew: another filter. */
export function reload() {
  generation += 1;
  calls.abort();
  calls = new AbortController();
  pages.clear();
  state.counting = true;
  state.cursor = 0;
  state.anchor = 0;
  return count();
}

let refreshTimer = 0;

/** Reads anew what is in view, and shows what is there until then. @param {number} [delay] */
export function refresh(delay = state.total > 20_000 ? 1500 : 250) {
  if (refreshTimer) return;
  refreshTimer = window.setTimeout(() => {
    refreshTimer = 0;
    for (const page of pages.values()) page.stale = true;
    count();
    // What is in view is read when it is drawn, and the count may take long.
    update();
  }, delay);
}

/** @type {Set<(job: Job) => void>} */
const followers = new Set();

/** @param {(job: Job) => void} follower */
export function onJob(follower) {
  followers.add(follower);
}

/** @param {Job} job */
function changed(job) {
  const before = jobs.get(job.jobId);
  const isListed = before !== undefined && indexOf(job.jobId) >= 0;
  if (before || job.jobId === state.jobId) jobs.set(job.jobId, job);
  // One that is new, or that may match the filter now or no more, moves the others.
  if (!isListed || (state.filters.state && before.state !== job.state)) refresh();
  for (const follower of followers) follower(job);
  update();
}

/** @type {EventSource | null} */
let events = null;
let retryTimer = 0;
let retryDelay = MIN_RETRY_MS;

/** Listens to changes. The browser reconnects by itself, and says what it heard last, but not after a status other than 200. */
export function listen() {
  if (events && events.readyState !== EventSource.CLOSED) return;
  clearTimeout(retryTimer);
  const source = new EventSource(url('events'));
  // It does not know what the one before heard last.
  if (events) source.addEventListener('open', () => refresh(0), { once: true });
  events = source;
  source.addEventListener('open', () => {
    retryDelay = MIN_RETRY_MS;
    state.live = 'live';
    update();
  });
  source.addEventListener('error', () => {
    state.live = 'away';
    if (source.readyState === EventSource.CLOSED) {
      retryTimer = window.setTimeout(() => state.phase === 'ready' && listen(), retryDelay);
      retryDelay = Math.min(2 * retryDelay, MAX_RETRY_MS);
    }
    update();
  });
  source.addEventListener('job', (event) => changed(JSON.parse(event.data)));
  source.addEventListener('missed', () => refresh());
  source.addEventListener('reset', () => refresh(0));
}
