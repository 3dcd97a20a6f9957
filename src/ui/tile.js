// One job in the grid.
import { html, nothing } from './vendor/lit-html/lit-html.js';
import { contentUrl, isAdmin, keepThumbnail, thumbnailUrl } from './api.js';
import { dateTime, length, plural, reason } from './format.js';
import { follow, state, update } from './state.js';
import { toggle } from './select.js';

/** @typedef {import('./types').Job} Job */
/** @typedef {import('./types').Asset} Asset */

/** What a file is, for who looks at it. @param {Asset} asset */
export function medium(asset) {
  const type = asset.contentType ?? '';
  if (type.startsWith('image/')) return 'image';
  if (type.startsWith('video/')) return 'video';
  if (type.startsWith('audio/')) return 'audio';
  return asset.state === 'stored' ? 'document' : 'none';
}

/** The files that are shown, the best to look at first. @param {Job} job */
export function mediaOf(job) {
  const order = ['video', 'image', 'audio', 'document', 'none'];
  const files = job.assets.filter((asset) => asset.role === 'media');
  return (files.length ? files : job.assets).toSorted((a, b) => order.indexOf(medium(a)) - order.indexOf(medium(b)));
}

/** A still of a job: a poster that is kept, else the file itself. @param {Job} job @param {Asset} [asset] */
function still(job, asset) {
  const poster = job.assets.find((other) => other.role !== 'media' && other.sha256 && other.contentType?.startsWith('image/'));
  return (asset && medium(asset) === 'image' ? asset : poster)?.sha256 ?? asset?.sha256;
}

/** A job in words. @param {Job} job */
export const name = (job) => job.replyRef ?? job.prompt ?? job.jobId;

const SYMBOLS = /** @type {Record<string, string>} */ ({ video: '▶', image: '▣', agent: '◆', music: '♪', speech: '♪', other: '◇' });

/** @param {Job} job */
function badge(job) {
  const files = job.assets.filter((asset) => asset.role === 'media').length;
  if (files > 1) return `${SYMBOLS[job.kind] ?? ''} ${files} files`;
  return `${SYMBOLS[job.kind] ?? ''} ${job.duration ? length(job.duration) : job.kind}`;
}

/** Colours that a job keeps: of what has no picture. @param {string} id */
function hue(id) {
  let sum = 0;
  for (const char of id) sum = (sum * 31 + char.charCodeAt(0)) % 360;
  return sum;
}

/** Videos of which there is no still yet. @type {Set<string>} */
const without = new Set();

/** @param {Event} event @param {Asset} asset */
function failed(event, asset) {
  /** @type {HTMLElement} */ (event.target).classList.add('missing');
  if (asset.sha256 && medium(asset) === 'video') without.add(asset.sha256);
}

/** Keeps the first frame of a video that plays, so that the next visit sees it. @param {Event} event @param {Asset} asset */
export function keepStill(event, asset) {
  const video = /** @type {HTMLVideoElement} */ (event.target);
  if (!isAdmin() || !asset.sha256 || !without.delete(asset.sha256) || !video.videoWidth) return;
  const canvas = document.createElement('canvas');
  const scale = Math.min(1, 480 / Math.max(video.videoWidth, video.videoHeight));
  [canvas.width, canvas.height] = [Math.max(1, Math.round(video.videoWidth * scale)), Math.max(1, Math.round(video.videoHeight * scale))];
  canvas.getContext('2d')?.drawImage(video, 0, 0, canvas.width, canvas.height);
  const { sha256 } = asset;
  canvas.toBlob((still) => still && void keepThumbnail(sha256, still).catch(() => {}), 'image/jpeg', 0.8);
}

/** A tile's middle. @param {Job} job */
function picture(job) {
  const [asset] = mediaOf(job);
  if (job.state === 'running' || job.state === 'archiving') return progress(job);
  if (!asset || asset.state !== 'stored') return ended(job);
  const kind = medium(asset);
  const tint = `tint h${Math.floor(hue(job.jobId) / 45)}`;
  if (kind === 'video') {
    const plays = state.playing === job.jobId;
    return html`<span class=${tint} aria-hidden="true"><span class="glyph">▶</span></span>
      <img class="media" alt="" loading="lazy" decoding="async" src=${thumbnailUrl(still(job, asset) ?? '')} @error=${(/** @type {Event} */ event) => failed(event, asset)}>
      ${plays
        ? html`<video class="media" muted loop playsinline autoplay .muted=${true} src=${contentUrl(asset.sha256 ?? '')} aria-hidden="true" tabindex="-1" @loadeddata=${(/** @type {Event} */ event) => keepStill(event, asset)}></video>`
        : nothing}`;
  }
  if (kind === 'image')
    return html`<span class=${tint} aria-hidden="true"></span>
      <img class="media" alt="" loading="lazy" decoding="async" src=${thumbnailUrl(still(job, asset) ?? '')} @error=${(/** @type {Event} */ event) => failed(event, asset)}>`;
  if (kind === 'audio') return html`<span class="wave ${tint}" aria-hidden="true">${bars(job.jobId)}</span>`;
  return html`<span class=${tint} aria-hidden="true"><span class="glyph paper">${asset.file.split('.').pop()}</span></span>`;
}

/** @param {string} id */
function bars(id) {
  const seed = hue(id) + 1;
  return Array.from({ length: 28 }, (_, at) => html`<i class="b${Math.floor(Math.abs(Math.sin(at * 1.7 + seed)) * 9)}"></i>`);
}

/** @param {Job} job */
function progress(job) {
  const stored = job.assets.filter((asset) => asset.state === 'stored').length;
  const says = job.state === 'archiving' ? `storing ${stored} of ${Math.max(1, job.assets.length)}` : (job.statusLabel ?? 'running');
  const percent = job.state === 'archiving' ? 100 : (job.percent ?? 0);
  return html`<span class="run">
    <b dir="auto">${name(job)}</b>
    <progress max="100" value=${percent} aria-label="progress of ${name(job)}"></progress>
    <small>${job.kind} · ${job.state === 'running' && job.percent !== null ? `${job.percent} % · ` : ''}${says}</small>
  </span>`;
}

/** @param {Job} job */
function ended(job) {
  const says = job.state === 'stuck' ? reason(job.reason) : (job.error ?? job.message ?? job.outcome ?? 'without media');
  return html`<span class="run ${job.state}"><b dir="auto">${name(job)}</b><small>${job.state} · ${says}</small></span>`;
}

/** @param {Job} job @param {boolean} play */
function hover(job, play) {
  const [asset] = mediaOf(job);
  if (!asset || medium(asset) !== 'video' || !asset.sha256) return;
  state.playing = play ? job.jobId : null;
  update();
}

/** Shows or hides the video of the tile with the focus. @param {Job} job */
export const togglePlay = (job) => hover(job, state.playing !== job.jobId);

/** @param {Job | undefined} job @param {number} index @param {number} total */
export function tile(job, index, total) {
  if (!job) return html`<li class="tile wait" aria-hidden="true"></li>`;
  const selected = state.selected.has(job.jobId);
  const ended = !['running', 'archiving'].includes(job.state);
  const [asset] = mediaOf(job);
  const sound = asset?.sha256 && medium(asset) === 'audio';
  const shade = ended && asset?.state === 'stored';
  const what = `${job.kind}, ${job.state}${job.state === 'running' ? ` ${job.percent ?? 0} %` : ''}`;
  return html`<li class="tile ${selected ? 'selected' : ''} ${state.selected.size ? 'choosing' : ''}" aria-posinset=${index + 1} aria-setsize=${total}
      @pointerenter=${(/** @type {PointerEvent} */ event) => event.pointerType === 'mouse' && state.hoverPlay && hover(job, true)}
      @pointerleave=${() => state.playing === job.jobId && hover(job, false)}>
    <a class="open" href="?job=${encodeURIComponent(job.jobId)}" data-index=${index} tabindex=${index === state.cursor ? 0 : -1}
      @focus=${() => (state.cursor = index)} @click=${(/** @type {MouseEvent} */ event) => click(event, job, index)}>
      <span class="sr">${name(job)}: ${what}${job.prompt ? `. ${job.prompt}` : ''}. ${dateTime(job.createdAt)}, ${plural(job.assets.length, 'file')}</span>
      <span aria-hidden="true">${picture(job)}
      ${shade ? html`<span class="shade"><span class="ref" dir="auto">${name(job)}</span><span class="kind">${badge(job)}</span></span>` : nothing}</span>
    </a>
    <button class="tick" tabindex="-1" aria-pressed=${selected} aria-label="select ${name(job)}" @click=${(/** @type {MouseEvent} */ event) => toggle(job.jobId, index, event.shiftKey)}>${selected ? '✓' : ''}</button>
    ${sound ? html`<audio controls preload="none" src=${contentUrl(asset.sha256 ?? '')} aria-label="sound of ${name(job)}"></audio>` : nothing}
    ${job.state === 'stuck' ? html`<span class="mark" aria-hidden="true">!</span>` : nothing}
  </li>`;
}

/** @param {MouseEvent} event @param {Job} job @param {number} index */
function click(event, job, index) {
  if (event.metaKey || event.ctrlKey) return;
  if (event.shiftKey || state.selected.size) {
    event.preventDefault();
    toggle(job.jobId, index, event.shiftKey);
    return;
  }
  state.cursor = index;
  follow({ job: job.jobId })(event);
}
