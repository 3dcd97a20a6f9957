// The grid: of all jobs only what is in view is drawn.
import { html, nothing } from './vendor/lit-html/lit-html.js';
import { repeat } from './vendor/lit-html/directives/repeat.js';
import { count, dayName, plural } from './format.js';
import { GAP, HEADING, layOut, topOf, visible } from './layout.js';
import { jobAt } from './live.js';
import { navigate, state, update } from './state.js';
import { tile } from './tile.js';
import { timeline } from './timeline.js';

/** @type {import('./layout.js').Layout} */
export let layout = layOut([], 800);
let key = '';
let lastDays = state.days;

const grid = () => document.getElementById('grid');

/** Where the view begins, in the list's own height. */
function position() {
  const box = grid()?.getBoundingClientRect();
  return Math.max(0, -(box?.top ?? 0) + headerHeight()) * layout.scale;
}

const headerHeight = () => document.querySelector('header')?.offsetHeight ?? 56;

/** @param {number} top */
export function scrollTo(top) {
  const box = grid()?.getBoundingClientRect();
  const offset = (box?.top ?? 0) + scrollY - headerHeight();
  scroll({ top: offset + top / layout.scale });
  update();
}

/** Moves the focus to a tile. @param {number} index */
export function focusTile(index) {
  state.cursor = index;
  const top = topOf(layout, index);
  const from = position();
  const room = innerHeight - headerHeight();
  if (top < from) scrollTo(top - HEADING);
  else if (top + layout.row > from + room) scrollTo(top + layout.row - room + 8);
  update();
  requestAnimationFrame(() =>
    requestAnimationFrame(() => /** @type {HTMLElement | null} */ (document.querySelector(`[data-index="${index}"]`))?.focus({ preventScroll: true })),
  );
}

function width() {
  const box = grid()?.parentElement;
  return box ? box.clientWidth : Math.max(300, innerWidth - 120);
}

export function view() {
  const now = `${width()}`;
  if (now !== key || lastDays !== state.days) {
    layout = layOut(state.days, width());
    key = now;
    lastDays = state.days;
  }
  if (!state.total && !state.counting) return empty();
  const top = position();
  // Of what is scrolled by fast, little is drawn ahead.
  const ahead = innerHeight * 0.6;
  const shown = visible(layout, top - ahead, top + innerHeight + ahead);
  const shift = top - top / layout.scale;
  const stripHeight = Math.max(120, innerHeight - headerHeight() - 40);
  return html`<div class="with-days">
    <div class="list" aria-busy=${state.counting}>
      <div id="grid" .style=${`height:${state.counting && !state.total ? innerHeight : layout.height}px`}>
        ${repeat(
          shown,
          ({ section }) => section.day,
          ({ section, firstRow, start, end }) => html`<section aria-label="${dayName(section.day)}, ${plural(section.jobs, 'job')}">
            <h2 .style=${`transform:translateY(${section.top - shift}px)`}>${dayName(section.day)} <small>${count(section.jobs)} made</small></h2>
            <ul .style=${`transform:translateY(${section.top + HEADING + firstRow * layout.row - shift}px);grid-template-columns:repeat(${layout.columns},minmax(0,1fr));grid-auto-rows:${layout.row - GAP}px`}>
              ${repeat(keyed(start, end), ([, key]) => key, ([index]) => tile(jobAt(index), index, layout.total))}
            </ul>
          </section>`,
        )}
        ${state.counting && !state.total ? html`<ul class="waiting" aria-hidden="true">${range(0, 12).map(() => html`<li class="tile wait"></li>`)}</ul>` : nothing}
      </div>
    </div>
    ${state.total ? timeline(layout, top, stripHeight, scrollTo) : nothing}
  </div>`;
}

/** Places with what their tiles go by. While pages move a job may stand in two. @param {number} from @param {number} to @returns {[number, string | number][]} */
function keyed(from, to) {
  const seen = new Set();
  return range(from, to).map((index) => {
    const id = jobAt(index)?.jobId;
    const key = id === undefined || seen.has(id) ? index : id;
    seen.add(id);
    return [index, key];
  });
}

/** @param {number} from @param {number} to */
const range = (from, to) => Array.from({ length: Math.max(0, to - from) }, (_, at) => from + at);

function empty() {
  return html`<div class="empty"><h2>Nothing matches</h2>
    <p>No job has all of what is asked for.</p>
    <button class="go" @click=${() => navigate({ filters: {} })}>Show all jobs</button></div>`;
}
