// What was kept aside, raw.
import { html, nothing } from './vendor/lit-html/lit-html.js';
import { get, isAdmin, post, query, remove } from './api.js';
import { dateTime, reason, size } from './format.js';
import { tell, update } from './state.js';

/** @type {any[] | null} */
let items = null;
/** @type {string | null} */
let next = null;
let error = '';
/** @type {any} */
let shown = null;

export function open() {
  items = null;
  shown = null;
  return more(true);
}

async function more(first = false) {
  try {
    const answer = await get(`quarantine?${query({ limit: 50, cursor: first ? undefined : (next ?? undefined) })}`);
    items = first ? answer.items : [...(items ?? []), ...answer.items];
    next = answer.nextCursor;
    error = '';
  } catch (failure) {
    error = failure.message;
  }
  update();
}

/** @param {string} id @param {() => Promise<any>} does @param {string} says */
async function act(id, does, says) {
  try {
    const answer = await does();
    tell(answer?.quarantineId ? `It stays in quarantine: ${reason(answer.reason)}.` : says);
    if (!answer?.quarantineId) items = (items ?? []).filter((item) => item.quarantineId !== id);
    error = '';
  } catch (failure) {
    error = failure.message;
  }
  update();
}

/** @param {string} id */
async function look(id) {
  shown = shown?.quarantineId === id ? null : await get(`quarantine/${id}`).catch((failure) => ((error = failure.message), null));
  update();
}

/** @param {any} item */
function entry(item) {
  const id = item.quarantineId;
  const isOpen = shown?.quarantineId === id;
  return html`<li class="panel">
    <p><b>${reason(item.reason)}</b> <span class="dim">${dateTime(item.at)} · over ${item.target} · ${size(item.bytes)}${item.jobId ? ` · ${item.jobId}` : ''}</span></p>
    <p class="acts">
      <button aria-expanded=${isOpen} @click=${() => look(id)}>${isOpen ? 'Hide the body' : 'Show the body'}</button>
      ${isAdmin()
        ? html`<button class="go" @click=${() => act(id, () => post(`quarantine/${id}/replay`), 'Replayed: it was let in.')}>Replay</button>
            <button @click=${() => act(id, () => remove(`quarantine/${id}`), 'Deleted.')}>Delete</button>`
        : nothing}
    </p>
    ${isOpen ? html`<pre tabindex="0" aria-label="the body">${JSON.stringify(shown.body, null, 2)}</pre>` : nothing}
  </li>`;
}

export function view() {
  return html`<article class="page">
    <h1>Quarantine</h1>
    <p class="lead">Callbacks that were authentic and could not be taken: kept as they came. Once the reason is gone, replay them.</p>
    ${error ? html`<p class="error" role="alert">${error}</p>` : nothing}
    ${items === null ? html`<p class="empty">It is being read.</p>` : items.length ? html`<ul class="plain">${items.map(entry)}</ul>` : html`<p class="empty">Nothing is in quarantine.</p>`}
    ${next ? html`<button @click=${() => more()}>More</button>` : nothing}
  </article>`;
}
