// An empty vault: the replyUrl to copy, and a call that makes a first job.
import { html, nothing } from './vendor/lit-html/lit-html.js';
import { isAdmin, post } from './api.js';
import { copy } from './format.js';
import { replyUrl } from './refs.js';
import { tell, update } from './state.js';

/** @type {any} */
let ref = null;
let error = '';

async function make() {
  try {
    ref = await post('refs', { replyRef: 'first-job' });
    error = '';
  } catch (failure) {
    error = failure.message;
  }
  update();
}

/** @param {string} url */
const curl = (url) => `curl https://api.useapi.net/v1/minimax/videos/create \\
  -H "Authorization: Bearer $USEAPI_TOKEN" \\
  -H "Content-Type: application/json" \\
  -d '{"prompt":"a paper boat crosses a flooded street","replyUrl":"${url}"}'`;

export function view() {
  const command = ref ? curl(ref.replyUrl) : '';
  return html`<article class="page setup">
    <h1>Nothing has been made yet</h1>
    <p class="lead">Give the provider a replyUrl with each job. What comes back shows up here, and stays.</p>
    <ol>
      <li><h2>Make a replyUrl</h2>
        ${isAdmin()
          ? ref
            ? replyUrl(ref)
            : html`<button class="go" @click=${make}>Make one for “first-job”</button>`
          : html`<p>Sign in with an admin token, or ask for <code>replyvault reply-url</code>.</p>`}
        ${error ? html`<p class="error" role="alert">${error}</p>` : nothing}</li>
      <li><h2>Create a job with it</h2>
        ${ref
          ? html`<pre tabindex="0" aria-label="the command">${command}</pre><button @click=${() => copy(command).then(() => tell('Command copied.'))}>Copy the command</button>`
          : html`<p class="dim">The command stands here then. Without credits, <code>replyvault demo --serve</code> shows it all.</p>`}</li>
      <li><h2>Watch it here</h2><p class="dim">This page changes by itself as soon as the provider calls back.</p></li>
    </ol>
  </article>`;
}
