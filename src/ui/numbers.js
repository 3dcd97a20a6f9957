// What the vault holds and has to do.
import { html } from './vendor/lit-html/lit-html.js';
import { chart } from './chart.js';
import { count, dateTime, size } from './format.js';
import { follow, state } from './state.js';

/** @param {string} label @param {unknown} value @param {string} [note] */
const number = (label, value, note = '') => html`<div class="number"><dt>${label}</dt><dd>${value}</dd><dd class="note">${note}</dd></div>`;

export function view() {
  const { stats } = state;
  if (!stats) return html`<p class="empty">The numbers are being read.</p>`;
  const all = Object.values(stats.jobs).reduce((/** @type {number} */ sum, /** @type {any} */ jobs) => sum + jobs, 0);
  const states = Object.entries(stats.jobs);
  return html`<article class="page">
    <h1>Numbers</h1>
    <dl class="numbers-grid">
      ${number('jobs', count(all), `${count(stats.callbacks)} callbacks`)}
      ${number('stored', size(stats.bytesStored), `${count(stats.objects)} objects`)}
      ${number('saved', size(stats.bytesDeduplicated), 'the same bytes, stored once')}
      ${number('queue', count(stats.queueDepth), stats.oldestDue ? `due since ${dateTime(stats.oldestDue)}` : 'nothing is due')}
      ${number('fetching', count(stats.fetching), `${count(stats.expiringWithinHour)} with links that expire soon`)}
      ${number('journal', size(stats.journalBytes), `${count(stats.refs)} refs`)}
    </dl>
    <h2>Callbacks per minute</h2>
    ${chart(stats.callbacksPerMinute ?? [], 'callbacks per minute')}
    <h2>Jobs by state</h2>
    <ul class="states">
      ${states.map(([name, jobs]) => html`<li><a href="?state=${name}" @click=${follow({ view: 'jobs', filters: { state: name } })}>
        <span>${name}</span><meter min="0" max=${Math.max(1, all)} value=${/** @type {number} */ (jobs)} aria-label="${name}"></meter><b>${count(/** @type {number} */ (jobs))}</b></a></li>`)}
    </ul>
  </article>`;
}
