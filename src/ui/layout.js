// Where each tile of the grid is, without drawing it: days one under another, rows in them.

export const GAP = 10;
export const HEADING = 46;
/** Browsers lay out pages up to some millions of pixels; a longer list is scrolled through faster. */
const MAX_HEIGHT = 6_000_000;

/** @typedef {{day: string, jobs: number, first: number, top: number, rows: number}} Section */

/** @param {{day: string, jobs: number}[]} days @param {number} width */
export function layOut(days, width) {
  const least = width < 520 ? 150 : width < 900 ? 180 : 208;
  const columns = Math.max(2, Math.floor((width + GAP) / (least + GAP)));
  const tile = (width - GAP * (columns - 1)) / columns;
  const row = Math.round(tile * 0.75) + GAP;
  /** @type {Section[]} */
  const sections = [];
  let [top, first] = [0, 0];
  for (const { day, jobs } of days) {
    const rows = Math.ceil(jobs / columns);
    sections.push({ day, jobs, first, top, rows });
    top += HEADING + rows * row;
    first += jobs;
  }
  const height = Math.max(1, Math.min(top, MAX_HEIGHT));
  return { columns, tile, row, sections, full: top, height, scale: top / height, total: first };
}

/** @typedef {ReturnType<typeof layOut>} Layout */

/** The section that a position is in. @param {Layout} layout @param {number} top */
export function sectionAt(layout, top) {
  let [low, high] = [0, layout.sections.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (layout.sections[middle].top <= top) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** The section that a job is in. @param {Layout} layout @param {number} index */
export function sectionOf(layout, index) {
  let [low, high] = [0, layout.sections.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (layout.sections[middle].first <= index) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** What is to be drawn between two positions. @param {Layout} layout @param {number} from @param {number} to */
export function visible(layout, from, to) {
  const found = [];
  for (let at = sectionAt(layout, from); at < layout.sections.length && layout.sections[at].top < to; at += 1) {
    const section = layout.sections[at];
    const body = section.top + HEADING;
    const firstRow = Math.max(0, Math.floor((from - body) / layout.row));
    const lastRow = Math.min(section.rows, Math.ceil((to - body) / layout.row));
    const start = Math.min(section.jobs, firstRow * layout.columns);
    const end = Math.min(section.jobs, Math.max(0, lastRow) * layout.columns);
    found.push({ section, firstRow, start: section.first + start, end: section.first + Math.max(start, end) });
  }
  return found;
}

/** Where a job's row begins. @param {Layout} layout @param {number} index */
export function topOf(layout, index) {
  const section = layout.sections[sectionOf(layout, index)];
  if (!section) return 0;
  return section.top + HEADING + Math.floor((index - section.first) / layout.columns) * layout.row;
}

/** The job a step away: across in the list, up and down by rows. @param {Layout} layout @param {number} index @param {string} key */
export function step(layout, index, key) {
  const last = Math.max(0, layout.total - 1);
  if (key === 'ArrowLeft') return Math.max(0, index - 1);
  if (key === 'ArrowRight') return Math.min(last, index + 1);
  const at = sectionOf(layout, index);
  const section = layout.sections[at];
  if (!section) return 0;
  const column = (index - section.first) % layout.columns;
  if (key === 'ArrowDown') {
    const below = index + layout.columns;
    if (below < section.first + section.jobs) return below;
    const row = Math.floor((index - section.first) / layout.columns);
    if (row < section.rows - 1) return section.first + section.jobs - 1;
    const next = layout.sections[at + 1];
    return next ? next.first + Math.min(column, next.jobs - 1) : index;
  }
  const above = index - layout.columns;
  if (above >= section.first) return above;
  const before = layout.sections[at - 1];
  if (!before) return index;
  const lastRow = (before.rows - 1) * layout.columns;
  return before.first + Math.min(lastRow + column, before.jobs - 1);
}
