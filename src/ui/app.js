// The gallery: what is around the grid, and what begins it all.
import { html, nothing, render } from './vendor/lit-html/lit-html.js';
import { findSession, openSession, remove } from './api.js';
import { count, plural, size } from './format.js';
import * as grid from './grid.js';
import * as job from './job.js';
import { help, listenToKeys } from './keys.js';
import { listen, reload } from './live.js';
import * as needs from './needs.js';
import * as numbers from './numbers.js';
import * as quarantine from './quarantine.js';
import * as refs from './refs.js';
import { bar } from './select.js';
import * as setup from './setup.js';
import { FILTERS, address, follow, navigate, onNavigate, onUpdate, readAddress, state, update, writeSetting } from './state.js';

const KINDS = ['video', 'image', 'agent', 'music', 'speech', 'other'];
const STATES = ['running', 'archiving', 'archived', 'failed', 'stuck'];

let filtersBefore = '';

async function begin() {
  state.phase = 'ready';
  listen();
  filtersBefore = JSON.stringify(state.filters);
  await Promise.all([reload(), needs.poll(), openView()]);
}

function openView() {
  job.load();
  if (state.view === 'refs') return refs.open();
  if (state.view === 'quarantine') return quarantine.open();
  return undefined;
}

let viewBefore = '';

function navigated() {
  if (state.phase !== 'ready') return;
  const filters = JSON.stringify(state.filters);
  if (filters !== filtersBefore) {
    filtersBefore = filters;
    scroll({ top: 0 });
    reload();
  }
  if (state.view !== viewBefore) {
    viewBefore = state.view;
    scroll({ top: 0 });
    openView();
  } else job.load();
}

let typing = 0;

/** @param {Event} event */
function search(event) {
  const q = /** @type {HTMLInputElement} */ (event.target).value;
  clearTimeout(typing);
  typing = window.setTimeout(() => navigate({ view: 'jobs', filters: { ...state.filters, q } }, true), 180);
}

/** @param {string} name @param {string} value */
const filter = (name, value) => navigate({ view: 'jobs', filters: { ...state.filters, [name]: value } });

/** @param {string} name @param {string} value @param {string} label */
function chip(name, value, label) {
  const on = (state.filters[name] ?? '') === value;
  const filters = { ...state.filters, [name]: on && value ? '' : value };
  return html`<a class="chip ${on ? 'on' : ''}" aria-current=${on ? 'true' : 'false'} href=${address({ view: 'jobs', filters })} @click=${follow({ view: 'jobs', filters })}>${label}</a>`;
}

/** @param {string} view @param {string} label */
const tab = (view, label) =>
  html`<a href=${address({ view, filters: {} })} aria-current=${state.view === view ? 'page' : 'false'} @click=${follow({ view, filters: view === 'jobs' ? state.filters : {} })}>${label}</a>`;

async function signOut() {
  await remove('session').catch(() => {});
  writeSetting('session', 'no');
  location.reload();
}

/** Whether there is no job at all. */
const isEmpty = () => !state.counting && !state.total && !FILTERS.some((name) => state.filters[name]);

function top() {
  const { stats, filters } = state;
  const all = stats ? Object.values(stats.jobs).reduce((/** @type {number} */ sum, /** @type {any} */ jobs) => sum + jobs, 0) : 0;
  return html`<header><div class="bar">
      <a class="brand" href=${location.pathname} @click=${follow({ view: 'jobs', filters: {} })}>replyvault</a>
      <label class="search"><span aria-hidden="true">⌕</span><span class="sr">search</span>
        <input id="search" type="search" placeholder="prompt or replyRef" autocomplete="off" spellcheck="false" .value=${(filters.q ?? '').replaceAll('"', '')} @input=${search}>
        <kbd aria-hidden="true">/</kbd></label>
      ${stats
        ? html`<p class="numbers"><span><b>${count(all)}</b> jobs</span><span><b>${size(stats.bytesStored)}</b> kept</span>
            ${stats.bytesDeduplicated ? html`<span><b>${size(stats.bytesDeduplicated)}</b> saved</span>` : nothing}
            ${stats.jobs.running ? html`<span><b>${count(stats.jobs.running)}</b> running</span>` : nothing}</p>`
        : nothing}
      <nav aria-label="views">${tab('jobs', 'Gallery')}${tab('refs', 'Refs')}${tab('numbers', 'Numbers')}
        <button class="quiet" aria-label="show the keys" title="keys" @click=${() => ((state.help = true), update())}>?</button>
        <button class="quiet" @click=${signOut}>Sign out</button></nav>
    </div>
    ${state.view === 'jobs' && !isEmpty() ? filterBar() : nothing}
  </header>`;
}

function filterBar() {
  const { filters } = state;
  return html`<div class="bar filters" role="search" aria-label="filters">
    <span class="chips">${chip('kind', '', 'All')}${KINDS.map((kind) => chip('kind', kind, kind))}</span>
    <label class="pick"><span class="sr">state</span><select @change=${(/** @type {Event} */ event) => filter('state', /** @type {HTMLSelectElement} */ (event.target).value)}>
      <option value="" ?selected=${!filters.state}>any state</option>
      ${STATES.map((name) => html`<option value=${name} ?selected=${filters.state === name}>${name}</option>`)}</select></label>
    <details class="more" ?open=${Boolean(filters.from || filters.to || filters.label || filters.provider)}><summary>More</summary>
      <span class="fields">
        ${field('from', 'date', 'from')}${field('to', 'date', 'to')}${field('label', 'text', 'label (name:text)')}${field('provider', 'text', 'provider')}
        <label class="check"><input type="checkbox" .checked=${state.hoverPlay} @change=${hoverPlay}> play on hover</label>
      </span></details>
    ${FILTERS.some((name) => filters[name]) ? html`<button class="quiet" @click=${() => navigate({ filters: {} })}>Clear</button>` : nothing}
    <span class="found" role="status">${state.counting ? 'counting…' : plural(state.total, 'job')}</span>
  </div>`;
}

/** @param {string} name @param {string} type @param {string} label */
const field = (name, type, label) =>
  html`<label>${label}<input type=${type} .value=${state.filters[name] ?? ''} @change=${(/** @type {Event} */ event) => filter(name, /** @type {HTMLInputElement} */ (event.target).value)}></label>`;

/** @param {Event} event */
function hoverPlay(event) {
  state.hoverPlay = /** @type {HTMLInputElement} */ (event.target).checked;
  writeSetting('hoverPlay', state.hoverPlay ? 'yes' : 'no');
  update();
}

/** @param {SubmitEvent} event */
async function signIn(event) {
  event.preventDefault();
  const token = String(new FormData(/** @type {HTMLFormElement} */ (event.target)).get('token') ?? '').trim();
  try {
    await openSession(token);
    state.loginError = '';
    await begin();
  } catch (error) {
    state.loginError = error.status === 401 ? 'That token is not known here.' : error.message;
  }
  update();
}

function login() {
  return html`<main class="login"><form @submit=${signIn}>
    <h1>replyvault</h1>
    <p>The gallery of what was made. It wants an API token, once.</p>
    <label>Token <input name="token" type="password" autocomplete="current-password" required autofocus></label>
    ${state.loginError ? html`<p class="error" role="alert">${state.loginError}</p>` : nothing}
    <button class="go">Open</button>
    <p class="dim">Without one in the configuration, it is in <code>secrets.toml</code>. A read token sees; an admin token acts.</p>
  </form></main>`;
}

function body() {
  if (state.view === 'refs') return refs.view();
  if (state.view === 'numbers') return numbers.view();
  if (state.view === 'quarantine') return quarantine.view();
  if (state.view === 'setup' || isEmpty()) return setup.view();
  return grid.view();
}

function page() {
  if (state.phase === 'loading') return html`<p class="splash">replyvault</p>`;
  if (state.phase === 'login') return login();
  return html`${top()}
    ${state.error || state.live === 'away' ? html`<p class="away" role="alert">${state.error ?? 'The connection is lost. It is tried again.'}</p>` : nothing}
    <main>${state.view === 'jobs' ? needs.view() : nothing}<div class="body">${body()}</div></main>
    ${bar()}${job.view()}${help()}
    <div class="toast ${state.toast ? 'shown' : ''}" role="status" aria-live="polite">${state.toast}</div>`;
}

function draw() {
  render(page(), /** @type {HTMLElement} */ (document.getElementById('app')));
  job.drawn();
  const keys = /** @type {HTMLDialogElement | null} */ (document.querySelector('dialog.help'));
  if (keys && !keys.open) keys.showModal();
  document.title = state.filters.q ? `${state.filters.q} – replyvault` : 'replyvault';
  document.body.classList.toggle('selecting', state.selected.size > 0);
}

document.getElementById('app')?.replaceChildren();
onUpdate(draw);
onNavigate(navigated);
readAddress();
viewBefore = state.view;
history.scrollRestoration = 'manual';
addEventListener('scroll', update, { passive: true });
addEventListener('resize', update);
setInterval(needs.poll, 10_000);
listenToKeys();
update();
try {
  if (await findSession()) await begin();
  else state.phase = 'login';
} catch {
  state.phase = 'login';
  state.loginError = 'replyvault does not answer.';
}
update();
// What is measured before it is drawn for the first time is drawn once more.
requestAnimationFrame(update);
