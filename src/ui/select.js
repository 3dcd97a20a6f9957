// Several jobs at once.
import { html, nothing } from './vendor/lit-html/lit-html.js';
import { contentUrl, forAll, isAdmin, jobPath, post, url } from './api.js';
import { copy, plural } from './format.js';
import { jobAt, known } from './live.js';
import { state, tell, update } from './state.js';

/** @param {string} id @param {number} index @param {boolean} range */
export function toggle(id, index, range) {
  if (range) {
    const [from, to] = [Math.min(state.anchor, index), Math.max(state.anchor, index)];
    for (let at = from; at <= to; at += 1) {
      const job = jobAt(at);
      if (job) state.selected.add(job.jobId);
    }
  } else if (!state.selected.delete(id)) state.selected.add(id);
  state.anchor = index;
  state.cursor = index;
  update();
}

export function clear() {
  state.selected.clear();
  update();
}

/** The most jobs of one archive, see `ids` in the API. */
const MAX_ZIPPED = 100;

function files() {
  const jobs = [...state.selected].map(known);
  return jobs.flatMap((job) => job?.assets ?? []).filter((asset) => asset.sha256);
}

export async function copyLinks() {
  const links = files().map((asset) => asset.links?.public ?? contentUrl(/** @type {string} */ (asset.sha256)));
  if (!links.length) return tell('None of these has a file yet.');
  await copy(links.join('\n'));
  tell(`${plural(links.length, 'link')} copied.`);
}

/** A list for `wget --content-disposition --header "Authorization: Bearer …" -i links.txt`. */
export function downloadList() {
  const links = files().map((asset) => contentUrl(/** @type {string} */ (asset.sha256)));
  if (!links.length) return tell('None of these has a file yet.');
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([`${links.join('\n')}\n`], { type: 'text/plain' }));
  link.download = 'links.txt';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  tell('wget --content-disposition --header "Authorization: Bearer $TOKEN" -i links.txt');
}

/** An id as it stands in a list of `ids`, which has room for so many. @param {string} id */
const inList = (id) => encodeURIComponent(id).replaceAll('%3A', ':').replaceAll('%40', '@');

export function downloadZip() {
  const jobs = [...state.selected].map(known).filter((job) => job?.assets.some((asset) => asset.sha256));
  if (!jobs.length) return tell('None of these has a file yet.');
  if (jobs.length > MAX_ZIPPED) return tell(`One zip takes ${MAX_ZIPPED} jobs at the most. The wget list takes all.`);
  const link = document.createElement('a');
  link.href = `${url('jobs/zip')}?ids=${jobs.map((job) => inList(job?.jobId ?? '')).join(',')}`;
  link.download = '';
  link.click();
  tell(`${plural(jobs.length, 'job')} as one zip.`);
}

/** @param {string[]} ids */
export async function retry(ids) {
  const { done, failed } = await forAll(ids, (id) => post(`${jobPath(id)}/retry`));
  tell(failed ? `${plural(done, 'job')} tried again, ${failed} could not be.` : `${plural(done, 'job')} tried again.`);
}

export const retrySelected = () => retry([...state.selected]);

export function bar() {
  const many = state.selected.size;
  if (!many) return nothing;
  return html`<section class="bulk" aria-label="selected jobs">
    <b>${plural(many, 'job')} selected</b>
    ${isAdmin() ? html`<button class="go" @click=${retrySelected}>Retry</button>` : nothing}
    <button @click=${copyLinks}>Copy links</button>
    <button @click=${downloadZip}>Download zip</button>
    <button @click=${downloadList}>wget list</button>
    <button class="quiet" @click=${clear} aria-label="clear the selection">Clear</button>
  </section>`;
}
