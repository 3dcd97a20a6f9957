// Refs: listed, registered, revoked.
import { html, nothing } from './vendor/lit-html/lit-html.js';
import { get, isAdmin, post, query, remove } from './api.js';
import { copy, dateTime } from './format.js';
import { follow, tell, update } from './state.js';

/** @type {any[] | null} */
let items = null;
/** @type {string | null} */
let next = null;
let error = '';
/** The ref that is about to be revoked. @type {string | null} */
let revoking = null;
/** The one that was just registered. @type {any} */
let made = null;

export function open() {
  items = null;
  made = null;
  return more(true);
}

async function more(first = false) {
  try {
    const answer = await get(`refs?${query({ limit: 50, cursor: first ? undefined : (next ?? undefined) })}`);
    items = first ? answer.items : [...(items ?? []), ...answer.items];
    next = answer.nextCursor;
    error = '';
  } catch (failure) {
    error = failure.message;
  }
  update();
}

/** @param {SubmitEvent} event */
async function register(event) {
  event.preventDefault();
  const form = /** @type {HTMLFormElement} */ (event.target);
  const data = new FormData(form);
  const lines = String(data.get('labels') ?? '').split('\n').map((line) => line.split('='));
  const labels = Object.fromEntries(lines.filter(([name]) => name?.trim()).map(([name, ...rest]) => [name.trim(), rest.join('=').trim()]));
  const body = { replyRef: data.get('replyRef') || undefined, notifyUrl: data.get('notifyUrl') || undefined, labels };
  try {
    made = await post('refs', body);
    form.reset();
    tell(`${made.replyRef} is registered.`);
    await more(true);
  } catch (failure) {
    error = failure.message;
    update();
  }
}

/** @param {string} id */
async function revoke(id) {
  try {
    await remove(`refs/${id}`);
    items = (items ?? []).filter((ref) => ref.refId !== id);
    tell('Revoked: its replyUrl is accepted no more. Its jobs stay.');
  } catch (failure) {
    error = failure.message;
  }
  revoking = null;
  update();
}

/** @param {any} ref */
export const replyUrl = (ref) => html`<span class="copyable"><code>${ref.replyUrl}</code>
  <button aria-label="copy the replyUrl of ${ref.replyRef}" @click=${() => copy(ref.replyUrl).then(() => tell('replyUrl copied.'))}>Copy</button></span>`;

/** @param {any} ref */
function row(ref) {
  return html`<tr>
    <th scope="row"><a href="?q=${encodeURIComponent(ref.replyRef)}" dir="auto" @click=${follow({ view: 'jobs', filters: { q: `${ref.replyRef}"` } })}>${ref.replyRef}</a>
      ${Object.entries(ref.labels).map(([name, text]) => html`<span class="chip" dir="auto">${name}: ${text}</span>`)}</th>
    <td>${ref.origin}</td>
    <td>${dateTime(ref.createdAt)}</td>
    <td class="acts">
      ${ref.replyUrl ? html`<button aria-label="Copy replyUrl of ${ref.replyRef}" @click=${() => copy(ref.replyUrl).then(() => tell('replyUrl copied.'))}>Copy replyUrl</button>` : nothing}
      ${isAdmin()
        ? revoking === ref.refId
          ? html`<button class="danger" @click=${() => revoke(ref.refId)}>Revoke for good</button><button class="quiet" @click=${() => ((revoking = null), update())}>Keep</button>`
          : html`<button aria-label="revoke ${ref.replyRef}" @click=${() => ((revoking = ref.refId), update())}>Revoke</button>`
        : nothing}
    </td></tr>`;
}

export function view() {
  return html`<article class="page">
    <h1>Refs</h1>
    <p class="lead">A ref stands for what you call a piece of work. Its replyUrl goes to the provider; what comes back over it belongs to the ref.</p>
    ${isAdmin()
      ? html`<form class="panel" @submit=${register}>
          <label>replyRef <input name="replyRef" maxlength="1024" placeholder="boat-0017" autocomplete="off"></label>
          <label>notifyUrl <input name="notifyUrl" type="url" maxlength="1024" placeholder="optional" autocomplete="off"></label>
          <label>labels <textarea name="labels" rows="1" placeholder="project=harbour"></textarea></label>
          <button class="go">Register</button>
        </form>`
      : nothing}
    ${made ? html`<p class="panel made"><b dir="auto">${made.replyRef}</b> ${replyUrl(made)}</p>` : nothing}
    ${error ? html`<p class="error" role="alert">${error}</p>` : nothing}
    ${items === null
      ? html`<p class="empty">The refs are being read.</p>`
      : items.length
        ? html`<div class="table" tabindex="0" role="region" aria-label="refs"><table><thead><tr><th scope="col">replyRef</th><th scope="col">origin</th><th scope="col">since</th><th scope="col"><span class="sr">actions</span></th></tr></thead>
            <tbody>${items.map(row)}</tbody></table></div>`
        : html`<p class="empty">No refs yet.</p>`}
    ${next ? html`<button @click=${() => more()}>More</button>` : nothing}
  </article>`;
}
