// The keyboard.
import { html, nothing } from './vendor/lit-html/lit-html.js';
import * as grid from './grid.js';
import * as job from './job.js';
import { step } from './layout.js';
import { jobAt } from './live.js';
import { clear, copyLinks, downloadList, downloadZip, retry, toggle } from './select.js';
import { isAdmin } from './api.js';
import { navigate, state, update } from './state.js';
import { togglePlay } from './tile.js';

const KEYS = [
  ['/', 'search'],
  ['← ↑ → ↓', 'move among jobs'],
  ['Enter', 'open the job'],
  ['Space', 'select the job'],
  ['Shift + arrows', 'select a range'],
  ['p', 'play or stop the video'],
  ['r', 'retry what is selected'],
  ['c', 'copy the links of what is selected'],
  ['z', 'download them as one zip'],
  ['w', 'download their links as a list for wget'],
  ['← →', 'in a job: the one before, the next'],
  ['Home, End', 'the newest, the oldest'],
  ['Esc', 'close, or clear the selection'],
  ['?', 'show these keys'],
];

const ARROWS = ['ArrowLeft', 'ArrowRight', 'ArrowUp', 'ArrowDown'];

/** @param {KeyboardEvent} event */
function onKey(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  const writes = target.closest('input, textarea, select');
  if (event.ctrlKey || event.metaKey || event.altKey || state.phase !== 'ready') return;
  if (event.key === 'Escape' && writes) return target.blur();
  if (writes) return;
  const act = action(event, target);
  if (!act) return;
  event.preventDefault();
  act();
}

/** @param {KeyboardEvent} event @param {HTMLElement} target @returns {(() => void) | undefined} */
function action(event, target) {
  const { key } = event;
  if (key === '?') return () => ((state.help = !state.help), update());
  if (state.help) return key === 'Escape' ? () => ((state.help = false), update()) : undefined;
  if (state.jobId) {
    if (target.closest('video, audio, pre')) return undefined;
    if (key === 'ArrowRight') return () => job.go(1);
    if (key === 'ArrowLeft') return () => job.go(-1);
    return undefined;
  }
  if (key === '/') return () => /** @type {HTMLElement | null} */ (document.getElementById('search'))?.focus();
  if (state.view !== 'jobs') return key === 'Escape' ? () => navigate({ view: 'jobs' }) : undefined;
  if (key === 'Escape' && state.selected.size) return clear;
  const tile = target.closest('[data-index]');
  const inGrid = tile || target === document.body;
  if (ARROWS.includes(key) && inGrid && state.total) {
    if (!tile) return () => grid.focusTile(state.cursor);
    return () => {
      const from = state.cursor;
      const to = step(grid.layout, from, key);
      if (event.shiftKey) {
        const start = jobAt(from);
        if (start && !state.selected.size) toggle(start.jobId, from, false);
        const end = jobAt(to);
        if (end) {
          const anchor = state.anchor;
          toggle(end.jobId, to, true);
          state.anchor = anchor;
        }
      }
      grid.focusTile(to);
    };
  }
  if (key === 'Home' && inGrid) return () => grid.focusTile(0);
  if (key === 'End' && inGrid) return () => grid.focusTile(Math.max(0, state.total - 1));
  const here = jobAt(state.cursor);
  const ids = state.selected.size ? [...state.selected] : here && tile ? [here.jobId] : [];
  if ((key === ' ' || key === 'x') && tile && here) return () => toggle(here.jobId, state.cursor, event.shiftKey);
  if (key === 'p' && tile && here) return () => togglePlay(here);
  if (key === 'r' && ids.length && isAdmin()) return () => void retry(ids);
  if (key === 'c' && state.selected.size) return () => void copyLinks();
  if (key === 'z' && state.selected.size) return downloadZip;
  if (key === 'w' && state.selected.size) return downloadList;
  return undefined;
}

export function listenToKeys() {
  document.addEventListener('keydown', onKey);
}

export function help() {
  if (!state.help) return nothing;
  const shut = () => ((state.help = false), update());
  return html`<dialog class="help" aria-labelledby="help-title" @cancel=${(/** @type {Event} */ event) => (event.preventDefault(), shut())}
      @click=${(/** @type {MouseEvent} */ event) => event.target === event.currentTarget && shut()}>
    <div><button class="close" aria-label="close" @click=${shut}>×</button><h2 id="help-title">Keys</h2>
    <dl>${KEYS.map(([key, does]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${does}</dd></div>`)}</dl></div>
  </dialog>`;
}
