// A small chart of bars.
import { svg, html } from './vendor/lit-html/lit-html.js';
import { count } from './format.js';

/** @param {number[]} values the oldest first @param {string} label */
export function chart(values, label) {
  const most = Math.max(1, ...values);
  const [width, height] = [600, 96];
  const step = width / Math.max(1, values.length);
  const sum = values.reduce((a, b) => a + b, 0);
  return html`<figure class="chart">
    <svg viewBox="0 0 ${width} ${height}" preserveAspectRatio="none" role="img" aria-label="${label}: ${count(sum)} in ${values.length} minutes, at most ${count(most)} in one">
      ${values.map((value, at) => {
        const tall = Math.max(value ? 3 : 1, (value / most) * (height - 4));
        return svg`<rect class=${value ? 'bar' : 'bar none'} x=${at * step + 1} y=${height - tall} width=${Math.max(1, step - 2)} height=${tall} rx="1.5"></rect>`;
      })}
    </svg>
    <figcaption><span>${values.length} min ago</span><span>at most ${count(most)} a minute</span><span>now</span></figcaption>
  </figure>`;
}
