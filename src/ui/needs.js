// What cannot go on without somebody, each with its reason and the action beside it.
import { html, nothing } from './vendor/lit-html/lit-html.js';
import { forAll, get, isAdmin, post, query } from './api.js';
import { copy, count, dateTime, plural, reason } from './format.js';
import { refresh, remember } from './live.js';
import { retry } from './select.js';
import { follow, state, tell, update } from './state.js';

const CHECKS = /** @type {Record<string, string>} */ ({
  journal: 'Callbacks cannot be written down',
  state: 'Jobs cannot be looked up',
  storage: 'The storage is down',
  disk: 'The disk is full',
  provider: 'The provider does not let us ask',
});

/** The host of a job's stuck file. @param {any} job */
function hostOf(job) {
  const asset = job.assets.find((/** @type {any} */ asset) => asset.state === 'stuck' && asset.sourceUrl);
  try {
    return asset ? new URL(asset.sourceUrl.replace('?…', '')).host : null;
  } catch {
    return null;
  }
}

/** @param {any[]} items @param {(item: any) => string} by */
function groups(items, by) {
  /** @type {Map<string, any[]>} */
  const found = new Map();
  for (const item of items) found.set(by(item), [...(found.get(by(item)) ?? []), item]);
  return [...found.values()];
}

/** @param {any[]} jobs */
const names = (jobs) => jobs.slice(0, 3).map((job) => job.replyRef ?? job.jobId).join(', ') + (jobs.length > 3 ? ` and ${count(jobs.length - 3)} more` : '');

/** Looks again at what is in need. */
export async function look() {
  const { stats } = state;
  if (!stats) return;
  const needs = [];
  for (const [name, says] of Object.entries(state.ready?.checks ?? {})) {
    if (says !== 'ok') needs.push({ bad: true, what: CHECKS[name] ?? name, why: says });
  }
  if (stats.expiringWithinHour) {
    needs.push({
      bad: true,
      what: `${plural(stats.expiringWithinHour, 'job')} with links that expire within the hour`,
      why: 'they are tried first',
      link: { label: 'Show', to: { view: 'jobs', filters: { state: 'archiving' } } },
    });
  }
  try {
    if (stats.jobs.stuck) {
      const { items } = await get(`jobs?${query({ state: 'stuck', limit: 200 })}`);
      for (const job of items) remember(job);
      for (const jobs of groups(items, (job) => `${job.reason} ${job.reason === 'refused_by_policy' ? hostOf(job) : ''}`)) needs.push(stuck(jobs));
    }
    if (stats.quarantined) {
      const { items } = await get('quarantine?limit=200');
      for (const bodies of groups(items, (body) => body.reason)) needs.push(quarantined(bodies));
    }
    if (stats.notificationsDead) {
      const { items } = await get('notifications?state=dead&limit=200');
      for (const events of groups(items, (event) => `${event.endpoint ?? ''} ${event.reason}`)) needs.push(undelivered(events));
    }
  } catch {
    // It is asked again in a moment.
  }
  if (stats.outboxDepth) needs.push({ what: `${plural(stats.outboxDepth, 'callback')} to relay`, why: 'a receiver does not take them yet' });
  state.needs = needs;
  update();
}

/** @param {any[]} jobs */
function stuck(jobs) {
  const [{ reason: why }] = jobs;
  const host = why === 'refused_by_policy' ? hostOf(jobs[0]) : null;
  const line = host ? `REPLYVAULT_FETCH__ALLOWED_HOSTS='["${host}"]'` : null;
  return {
    what: `${count(jobs.length)} stuck`,
    why: host ? `${names(jobs)} · ${host} is not allowed` : `${names(jobs)} · ${reason(why)}`,
    line: host ? { text: `"${host}"`, full: line, label: 'add to fetch.allowed_hosts' } : null,
    act: { label: jobs.length > 1 ? 'Retry all' : 'Retry', does: () => retry(jobs.map((job) => job.jobId)) },
    link: { label: 'Show', to: { view: 'jobs', filters: { state: 'stuck' } } },
  };
}

/** @param {any[]} bodies */
function quarantined(bodies) {
  return {
    what: `${count(bodies.length)} in quarantine`,
    why: reason(bodies[0].reason),
    act: {
      label: bodies.length > 1 ? 'Replay all' : 'Replay',
      does: async () => {
        const { done, failed } = await forAll(bodies, (body) => post(`quarantine/${body.quarantineId}/replay`));
        tell(failed ? `${count(done)} replayed, ${failed} could not be.` : `${plural(done, 'callback')} replayed.`);
        refresh(0);
      },
    },
    link: { label: 'Look', to: { view: 'quarantine', filters: {} } },
  };
}

/** Events that are not sent any more. @param {any[]} events newest first */
function undelivered(events) {
  const [{ endpoint, reason: why, lastError, timestamp, jobId }] = events;
  const said = lastError && why === 'attempts_exhausted' ? lastError : reason(why);
  return {
    what: `${plural(events.length, 'event')} not delivered`,
    why: `to ${endpoint ?? 'a ref’s notifyUrl'}: ${said} · the last of ${dateTime(timestamp)}`,
    act: {
      label: events.length > 1 ? 'Send all again' : 'Send again',
      does: async () => {
        const { done, failed } = await forAll(events, (event) => post(`notifications/${encodeURIComponent(event.id)}/retry`));
        tell(failed ? `${count(done)} on their way, ${failed} could not be.` : `${plural(done, 'event')} on the way.`);
      },
    },
    link: { label: 'Show', to: { view: 'jobs', job: jobId } },
  };
}

/** @param {any} need */
function card(need) {
  const act = async (/** @type {Event} */ event) => {
    const button = /** @type {HTMLButtonElement} */ (event.currentTarget);
    button.disabled = true;
    await need.act.does();
    button.disabled = false;
    setTimeout(poll, 1500);
  };
  return html`<li class="need ${need.bad ? 'bad' : ''}">
    <span class="what"><b>${need.what}</b><span dir="auto">${need.why}</span>
      ${need.line
        ? html`<span class="line">${need.line.label}: <code>${need.line.text}</code>
            <button class="quiet" aria-label="copy ${need.line.text}" @click=${() => copy(need.line.text).then(() => tell('Copied. Restart, then retry.'))}>Copy</button></span>`
        : nothing}</span>
    ${need.act && isAdmin() ? html`<button class="go" @click=${act}>${need.act.label}</button>` : nothing}
    ${need.link ? html`<a class="button" href="?" @click=${follow(need.link.to)}>${need.link.label}</a>` : nothing}
  </li>`;
}

export function view() {
  if (!state.needs.length) return nothing;
  return html`<section class="needs" aria-label="what needs you"><h2 class="sr">What needs you</h2><ul>${state.needs.map(card)}</ul></section>`;
}

/** Reads the numbers, and what needs somebody. */
export async function poll() {
  if (state.phase !== 'ready') return;
  try {
    const [stats, ready] = await Promise.all([get('stats'), fetch(new URL('readyz', document.baseURI)).then((answer) => answer.json())]);
    state.stats = stats;
    state.ready = ready;
  } catch {
    // The line above the grid says that nothing answers.
  }
  await look();
}
