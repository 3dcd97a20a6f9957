// What the page shows, in one object. Whoever changes it calls `update`, which draws once per frame.

/** @typedef {import('./types').Job} Job */

export const FILTERS = ['q', 'kind', 'state', 'provider', 'label', 'from', 'to'];

export const state = {
  /** @type {any} */ session: null,
  /** 'loading' | 'login' | 'ready' */
  phase: 'loading',
  loginError: '',
  /** 'jobs' | 'refs' | 'numbers' | 'quarantine' | 'setup' */
  view: 'jobs',
  /** @type {Record<string, string>} */ filters: {},
  /** @type {{day: string, jobs: number}[]} */ days: [],
  total: 0,
  counting: true,
  /** @type {string | null} */ error: null,
  /** @type {string | null} */ jobId: null,
  /** @type {Set<string>} */ selected: new Set(),
  /** The tile that has the focus, counted from the newest on. */
  cursor: 0,
  /** Where a range of selected tiles begins. */
  anchor: 0,
  /** The job whose video plays in the grid. @type {string | null} */ playing: null,
  hoverPlay: readSetting('hoverPlay', matchMedia('(prefers-reduced-motion: reduce)').matches ? 'no' : 'yes') === 'yes',
  /** @type {any} */ stats: null,
  /** @type {any} */ ready: null,
  /** @type {any[]} */ needs: [],
  live: 'connecting',
  help: false,
  menu: false,
  /** What was done last, told once. */
  toast: '',
};

/** @param {string} name @param {string} fallback */
export function readSetting(name, fallback) {
  try {
    return localStorage.getItem(`replyvault.${name}`) ?? fallback;
  } catch {
    return fallback;
  }
}

/** @param {string} name @param {string} value */
export function writeSetting(name, value) {
  try {
    localStorage.setItem(`replyvault.${name}`, value);
  } catch {
    // Then it is good for this visit.
  }
}

let draw = () => {};
let drawing = false;

/** @param {() => void} how */
export function onUpdate(how) {
  draw = how;
}

export function update() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    draw();
  });
}

let toastTimer = 0;

/** Says what happened, for eyes and for screen readers. @param {string} text */
export function tell(text) {
  state.toast = text;
  clearTimeout(toastTimer);
  toastTimer = window.setTimeout(() => {
    state.toast = '';
    update();
  }, 5000);
  update();
}

/** @type {Set<() => void>} */
const listeners = new Set();

/** Called when the address says something else. @param {() => void} listener */
export function onNavigate(listener) {
  listeners.add(listener);
}

export function readAddress() {
  const query = new URLSearchParams(location.search);
  state.filters = Object.fromEntries(FILTERS.filter((name) => query.get(name)).map((name) => [name, query.get(name) ?? '']));
  state.jobId = query.get('job');
  const view = query.get('view') ?? 'jobs';
  state.view = ['refs', 'numbers', 'quarantine', 'setup'].includes(view) ? view : 'jobs';
}

/** @param {{view?: string, filters?: Record<string, string>, job?: string | null}} change */
export function address({ view = state.view, filters = state.filters, job = null }) {
  const query = new URLSearchParams();
  if (view !== 'jobs') query.set('view', view);
  for (const name of FILTERS) if (filters[name]) query.set(name, filters[name]);
  if (job) query.set('job', job);
  const text = query.toString();
  return text ? `?${text}` : location.pathname;
}

/** @param {Parameters<typeof address>[0]} change @param {boolean} [replace] */
export function navigate(change, replace = false) {
  history[replace ? 'replaceState' : 'pushState'](null, '', address(change));
  readAddress();
  for (const listener of listeners) listener();
  update();
}

addEventListener('popstate', () => {
  readAddress();
  for (const listener of listeners) listener();
  update();
});

/** A link that needs no new page. @param {Parameters<typeof address>[0]} change */
export function follow(change) {
  return (/** @type {MouseEvent} */ event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    navigate(change);
  };
}
