// The days beside the grid: each as long as it has jobs, to go to any of them at once.
import { html } from './vendor/lit-html/lit-html.js';
import { dayName, monthName, plural } from './format.js';
import { sectionAt } from './layout.js';

/** @typedef {import('./layout.js').Layout} Layout */

/** Labels that do not touch. @param {Layout} layout @param {number} height */
function labels(layout, height) {
  const found = [];
  let last = -Infinity;
  let month = '';
  for (const section of layout.sections) {
    const at = (section.top / Math.max(1, layout.full)) * height;
    const name = section.day.slice(0, 7);
    if (at - last < 22 || (found.length > 2 && name === month)) continue;
    found.push({ at, text: found.length < 3 ? dayName(section.day).replace(/, .*/, '') : monthName(section.day), day: section.day });
    last = at;
    month = name;
  }
  return found;
}

/** @param {Layout} layout @param {number} top @param {number} height @param {(top: number) => void} go */
export function timeline(layout, top, height, go) {
  const now = layout.sections[sectionAt(layout, top + 60)];
  const range = Math.max(1, layout.full);
  const here = Math.min(1, top / range) * height;
  /** @param {PointerEvent} event */
  const scrub = (event) => {
    if (event.type === 'pointermove' && !event.buttons) return;
    const box = /** @type {HTMLElement} */ (event.currentTarget).getBoundingClientRect();
    if (event.type === 'pointerdown') /** @type {HTMLElement} */ (event.currentTarget).setPointerCapture(event.pointerId);
    go((Math.max(0, Math.min(1, (event.clientY - box.top) / box.height))) * range);
  };
  /** @param {KeyboardEvent} event */
  const key = (event) => {
    const at = sectionAt(layout, top + 60);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + 30, PageUp: at - 30, Home: 0, End: layout.sections.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    go(layout.sections[Math.max(0, Math.min(layout.sections.length - 1, to))]?.top ?? 0);
  };
  return html`<div class="days" role="slider" tabindex="0" aria-label="day" aria-orientation="vertical" aria-valuemin="0"
      aria-valuemax=${Math.max(0, layout.sections.length - 1)} aria-valuenow=${sectionAt(layout, top + 60)}
      aria-valuetext=${now ? `${dayName(now.day)}, ${plural(now.jobs, 'job')}` : 'no jobs'}
      @pointerdown=${scrub} @pointermove=${scrub} @keydown=${key}>
    ${labels(layout, height).map(({ at, text, day }) => html`<span class="label ${day === now?.day ? 'now' : ''}" .style=${`top:${at}px`}>${text}</span>`)}
    <span class="here" .style=${`top:${here}px`}></span>
  </div>`;
}
