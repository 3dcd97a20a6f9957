// A job as a dialog over the grid, and as a page of its own by its address.
import { html, nothing } from './vendor/lit-html/lit-html.js';
import { contentUrl, get, isAdmin, jobPath, post, url } from './api.js';
import { clock, copy, dateTime, length, plural, reason, size } from './format.js';
import { indexOf, jobAt, known, remember } from './live.js';
import { follow, navigate, state, tell, update } from './state.js';
import { medium, mediaOf, name } from './tile.js';

/** @typedef {import('./types').Job} Job */
/** @typedef {import('./types').Asset} Asset */

let shownId = '';
let chosen = 0;
let error = '';
/** @type {string | null} */
let raw = null;
/** Links that the store signed, by file. @type {Map<string, {link: string, until: number}>} */
let signed = new Map();

/** Reads the job that the address names. */
export async function load() {
  const id = state.jobId;
  if (!id || id === shownId) return;
  shownId = id;
  chosen = 0;
  raw = null;
  error = '';
  signed = new Map();
  try {
    await read(id);
  } catch (failure) {
    error = failure.status === 404 ? 'There is no such job.' : failure.message;
  }
  update();
}

/** Reads a job with fresh links from the store, where it has such. @param {string} id */
async function read(id) {
  /** @type {Job} */
  const job = await get(`${jobPath(id)}?links=presigned`);
  if (id !== state.jobId) return;
  const links = job.assets.flatMap(({ file, links }) => (links?.presigned ? [/** @type {const} */ ([file, { link: links.presigned, until: Date.parse(links.expiresAt ?? '') }])] : []));
  signed = new Map(links);
  remember(job);
}

/** Copies a link that is good for anybody for a while: one that has just been signed. @param {Job} job @param {Asset} asset */
async function share(job, asset) {
  try {
    await read(job.jobId);
    const { link = '', until = 0 } = signed.get(asset.file) ?? {};
    await copy(link);
    tell(`New link copied. It works for anybody until ${dateTime(new Date(until).toISOString())}.`);
  } catch (failure) {
    tell(failure.message);
  }
}

export function close() {
  shownId = '';
  const index = state.jobId ? indexOf(state.jobId) : -1;
  navigate({ job: null });
  const tile = /** @type {HTMLElement | null} */ (document.querySelector(`[data-index="${index >= 0 ? index : state.cursor}"]`));
  requestAnimationFrame(() => requestAnimationFrame(() => tile?.focus({ preventScroll: true })));
}

/** Goes to the next or the one before. @param {number} by */
export function go(by) {
  const index = state.jobId ? indexOf(state.jobId) : -1;
  const next = index < 0 ? undefined : jobAt(index + by);
  if (!next || index + by < 0) return;
  state.cursor = index + by;
  navigate({ job: next.jobId }, true);
}

/** @param {string} what @param {string} text */
const copyButton = (what, text) => html`<button class="quiet copy" aria-label="copy ${what}" title="copy ${what}" @click=${() => copy(text).then(() => tell(`${what} copied.`))}>copy</button>`;

/** @param {Asset} asset */
function large(asset) {
  if (!asset?.sha256) return html`<div class="nothing">${asset ? `${asset.file}: ${asset.lastError ?? asset.state}` : 'no media'}</div>`;
  const src = contentUrl(asset.sha256);
  const kind = medium(asset);
  if (kind === 'image') return html`<img src=${src} alt=${asset.file}>`;
  if (kind === 'video') return html`<video src=${src} controls loop playsinline preload="metadata" aria-label=${asset.file}></video>`;
  if (kind === 'audio') return html`<div class="sound"><span class="glyph" aria-hidden="true">♪</span><audio src=${src} controls preload="metadata" aria-label=${asset.file}></audio></div>`;
  return html`<div class="nothing"><span class="glyph paper" aria-hidden="true">${asset.file.split('.').pop()}</span><p>${asset.file} · ${size(asset.bytes)}</p></div>`;
}

/** What happened, as far as it is recorded. @param {Job} job */
function timeline(job) {
  /** @type {[string, string][]} */
  const events = [[job.createdAt, 'made']];
  for (const asset of job.assets) if (asset.storedAt) events.push([asset.storedAt, `${asset.file} stored${asset.deduplicated ? ', the same bytes were there' : ''}${asset.attempts > 1 ? `, attempt ${asset.attempts}` : ''}`]);
  if (job.archivedAt) events.push([job.archivedAt, 'manifest written, archived']);
  else events.push([job.updatedAt, `${job.state}${job.reason ? `: ${reason(job.reason)}` : ''}`]);
  return events.toSorted(([a], [b]) => (a < b ? -1 : 1));
}

/** @param {string} label @param {unknown} value */
const row = (label, value) => html`<div><dt>${label}</dt><dd>${value}</dd></div>`;

/** @param {Job} job @param {Asset} asset @param {number} at @param {number} all */
function file(job, asset, at, all) {
  const link = asset.sha256 ? contentUrl(asset.sha256) : '';
  return html`<section class="file">
    <h3>${all > 1 ? html`<button class="quiet ${at === chosen ? 'on' : ''}" aria-pressed=${at === chosen} @click=${() => ((chosen = at), update())}>${asset.file}</button>` : asset.file}
      <small>${[size(asset.bytes), asset.variant, asset.contentType].filter(Boolean).join(' · ')}</small></h3>
    <dl class="kv">
      ${asset.sha256 ? row('SHA-256', html`<code>${asset.sha256}</code>${copyButton('SHA-256', asset.sha256)}`) : row('state', `${asset.state}${asset.lastError ? `: ${asset.lastError}` : ''}`)}
      ${asset.key ? row('key', html`<code>${asset.key}</code>${copyButton('key', asset.key)}`) : nothing}
      ${asset.links?.public ? row('public', html`<code>${asset.links.public}</code>${copyButton('public link', asset.links.public)}`) : nothing}
      ${asset.sourceUrl ? row('source', html`<code>${asset.sourceUrl}</code>${asset.sourceUrl.includes('…') ? nothing : copyButton('source', asset.sourceUrl)}`) : nothing}
      ${asset.attempts > 1 ? row('attempts', asset.attempts) : nothing}
    </dl>
    ${link
      ? html`<p class="acts"><a class="button go" href=${link} download=${asset.file}>Download</a>
          <button @click=${() => copy(link).then(() => tell('Link copied.'))}>Copy link</button>
          ${signed.has(asset.file) ? html`<button title="a link that works without a token, for a while" @click=${() => share(job, asset)}>New link to share</button>` : nothing}</p>`
      : nothing}
  </section>`;
}

/** @param {Job} job */
async function showManifest(job) {
  raw = raw ? null : await get(`${jobPath(job.jobId)}/manifest`).then((manifest) => JSON.stringify(manifest, null, 2), (failure) => failure.message);
  update();
}

/** @param {Job} job */
async function retry(job) {
  try {
    remember(await post(`${jobPath(job.jobId)}/retry`));
    tell('Tried again.');
  } catch (failure) {
    tell(failure.message);
  }
}

/** @param {Job} job */
function content(job) {
  const files = mediaOf(job);
  const index = indexOf(job.jobId);
  const about = [job.model, job.duration && length(job.duration), job.resolution, job.aspectRatio].filter(Boolean).join(' · ');
  return html`<div class="job">
    <div class="big">${large(files[chosen] ?? files[0])}
      ${index > 0 ? html`<button class="turn before" aria-label="the one before" @click=${() => go(-1)}>‹</button>` : nothing}
      ${index >= 0 && index < state.total - 1 ? html`<button class="turn next" aria-label="the next" @click=${() => go(1)}>›</button>` : nothing}
    </div>
    <div class="side">
      <div class="title"><h2 id="job-title" dir="auto">${name(job)}</h2><span class="state ${job.state}">${job.state}</span></div>
      ${job.prompt ? html`<p class="prompt" dir="auto">${job.prompt}</p>` : nothing}
      ${Object.entries(job.labels ?? {}).length
        ? html`<p class="chips">${Object.entries(job.labels ?? {}).map(([label, text]) => html`<a class="chip" href="?" dir="auto" @click=${follow({ view: 'jobs', filters: { label: `${label}:${text}` } })}>${label}: ${text}</a>`)}</p>`
        : nothing}
      ${job.state === 'running' ? html`<progress max="100" value=${job.percent ?? 0} aria-label="progress"></progress>` : nothing}
      ${job.state === 'stuck' ? html`<p class="error">Stuck: ${reason(job.reason)}.</p>` : nothing}
      ${job.error || job.message ? html`<p class="dim" dir="auto">${job.error ?? job.message}</p>` : nothing}
      <p class="acts">
        ${isAdmin() && job.state !== 'archived' ? html`<button class="go" @click=${() => retry(job)}>Retry</button>` : nothing}
        <button @click=${() => copy(new URL(`?job=${encodeURIComponent(job.jobId)}`, document.baseURI).href).then(() => tell('Link to this page copied.'))}>Copy page link</button>
        ${job.manifestKey ? html`<button aria-expanded=${raw !== null} @click=${() => showManifest(job)}>Manifest and callback</button>` : nothing}
        <a class="button" href=${url(jobPath(job.jobId))} target="_blank" rel="noreferrer">JSON</a>
      </p>
      ${raw !== null ? html`<pre tabindex="0" aria-label="manifest and callback">${raw}</pre>` : nothing}
      ${files.map((asset, at) => file(job, asset, at, files.length))}
      <dl class="kv">
        ${row('made', dateTime(job.createdAt))}
        ${about ? row('with', about) : nothing}
        ${job.replyRef ? row('replyRef', html`<span dir="auto">${job.replyRef}</span>${copyButton('replyRef', job.replyRef)}`) : nothing}
        ${row('job', html`<code>${job.jobId}</code>${copyButton('job id', job.jobId)}`)}
        ${job.manifestKey ? row('manifest', html`<code>${job.manifestKey}</code>${copyButton('manifest key', job.manifestKey)}`) : nothing}
      </dl>
      <h3>What happened</h3>
      <ol class="story">${timeline(job).map(([at, what]) => html`<li><time datetime=${at}>${clock(at)}</time> ${what}</li>`)}
        <li class="dim">${plural(job.callbacks, 'callback')} in all</li></ol>
    </div></div>`;
}

export function view() {
  if (!state.jobId) return nothing;
  const job = known(state.jobId);
  return html`<dialog class="dialog" aria-labelledby="job-title" @cancel=${(/** @type {Event} */ event) => (event.preventDefault(), close())}
      @click=${(/** @type {MouseEvent} */ event) => event.target === event.currentTarget && close()}>
    <button class="close" aria-label="close" @click=${close}>×</button>
    ${job ? content(job) : html`<div class="alone"><h2 id="job-title">${error || 'The job is being read.'}</h2></div>`}
  </dialog>`;
}

/** A dialog has to be opened to hold the focus. */
export function drawn() {
  const dialog = /** @type {HTMLDialogElement | null} */ (document.querySelector('dialog.dialog'));
  if (dialog && !dialog.open) dialog.showModal();
}
