// The gallery as somebody uses it.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { Vault, launch, open, until } from './vault.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const HOSTILE = `<img src=x onerror="window.hacked=1">"'\`\${7*7}{{7*7}}</script><script>window.hacked=1</script>`;

/** @type {Vault} */
let vault;
let browser;

before(async () => {
  [vault, browser] = await Promise.all([Vault.start({ isTold: true }), launch()]);
});

after(async () => {
  await browser?.close();
  await vault?.stop();
});

/** Nothing that would keep somebody out. */
async function accessible(page, view) {
  // The page's own policy lets no script in: axe comes by way of the debugger.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  const serious = violations.filter(({ impact }) => ['serious', 'critical'].includes(impact));
  assert.deepEqual(serious.map(({ id, nodes }) => `${view}: ${id} ${nodes.slice(0, 3).map(({ html }) => html).join(' ')}`), []);
}

const tile = (page, name) => page.locator('li.tile', { has: page.locator('a .sr', { hasText: `${name}:` }) });

test('an empty vault shows how to begin, and the first job appears by itself', async () => {
  const page = await open(browser, vault);
  await page.getByRole('heading', { name: 'Nothing has been made yet' }).waitFor();
  await page.getByRole('button', { name: /Make one/ }).click();
  const command = await page.locator('pre').textContent();
  assert.match(command, /curl https:\/\/api\.useapi\.net.*"replyUrl":"http:\/\/127\.0\.0\.1:\d+\/reply\/ref_/s);
  await accessible(page, 'set-up');
  const replyUrl = /"replyUrl":"([^"]+)"/.exec(command)[1];
  await vault.callback(replyUrl, { videoId: vault.id('video', 1), status: 1, percent: 12, desc: 'the very first' });
  await tile(page, 'first-job').waitFor();
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test('a running job shows its progress and becomes its media without a reload', async () => {
  const page = await open(browser, vault);
  await page.evaluate(() => (window.sameDocument = true));
  await vault.job(10, { replyRef: 'harbour', percent: 20 });
  await page.locator('progress[aria-label="progress of harbour"]').waitFor();
  await vault.job(10, { replyRef: 'harbour', percent: 64 });
  await until('64 %', () => page.locator('progress[aria-label="progress of harbour"]').evaluate((bar) => bar.value === 64).catch(() => false));
  await vault.job(10, { replyRef: 'harbour' });
  const image = tile(page, 'harbour').locator('img.media');
  await until('the picture', () => image.evaluate((picture) => picture.naturalWidth > 0).catch(() => false));
  assert.ok(await page.evaluate(() => window.sameDocument));
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test('filters narrow the grid and stand in the address', async () => {
  for (let number = 20; number < 32; number += 1) await vault.job(number, { prompt: number % 2 ? 'a green kettle' : 'a paper boat', ago: number % 4, labels: { project: number % 3 ? 'sea' : 'tea' } });
  await vault.job(33, { kind: 'video', replyRef: 'clip', prompt: 'a boat that moves' });
  await vault.ended(vault.id('video', 33));
  const page = await open(browser, vault);
  await page.keyboard.press('/');
  await page.keyboard.type('kettle');
  await page.getByRole('status').filter({ hasText: '6 jobs' }).waitFor();
  assert.equal(new URL(page.url()).searchParams.get('q'), 'kettle');
  await page.getByRole('button', { name: 'Clear' }).click();
  await page.getByRole('link', { name: 'video', exact: true }).click();
  await tile(page, 'clip').waitFor();
  assert.equal(new URL(page.url()).searchParams.get('kind'), 'video');
  await page.goto(`${vault.url}/?label=project:tea`);
  await page.getByRole('status').filter({ hasText: '4 jobs' }).waitFor();
  await page.goBack();
  await page.getByRole('status').filter({ hasText: '2 jobs' }).waitFor();
  await page.goto(`${vault.url}/?q=nothingofthekind`);
  await page.getByRole('heading', { name: 'Nothing matches' }).waitFor();
  await accessible(page, 'no match');
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test('a video plays while it is pointed at, and pulls nothing before', async () => {
  const page = await open(browser, vault, { path: '/?kind=video&q=clip' });
  const pulled = [];
  page.on('request', (request) => request.url().endsWith('/content') && pulled.push(request.url()));
  await tile(page, 'clip').waitFor();
  await page.waitForLoadState('networkidle').catch(() => {});
  assert.deepEqual(pulled, []);
  await tile(page, 'clip').hover();
  const video = tile(page, 'clip').locator('video');
  await until('it plays', () => video.evaluate((video) => video.currentTime > 0).catch(() => false));
  await page.mouse.move(2, 2);
  await video.waitFor({ state: 'detached' });
  // Its first frame is kept for the next visit.
  const sha256 = (await vault.ended(vault.id('video', 33))).assets[0].sha256;
  await until('the still', () => fetch(`${vault.url}/api/v1/media/${sha256}/thumbnail`, { headers: { Authorization: 'Bearer browser-admin-token' } }).then((answer) => answer.status === 200));
  await page.locator('summary', { hasText: 'More' }).click();
  await page.getByLabel('play on hover').uncheck();
  await tile(page, 'clip').hover();
  assert.equal(await video.count(), 0);
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test('a job has a page of its own, and arrows go to the next', async () => {
  const page = await open(browser, vault, { path: `/?job=${encodeURIComponent(vault.id('image', 21))}` });
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('heading', { name: 'job-21' }).waitFor();
  await dialog.getByText('a green kettle').waitFor();
  await dialog.getByText(/^[0-9a-f]{64}$/).waitFor();
  await accessible(page, 'job');
  await dialog.getByRole('button', { name: 'Manifest and callback' }).click();
  await dialog.locator('pre', { hasText: 'replyvault/manifest/v1' }).waitFor();
  await dialog.getByRole('button', { name: 'copy SHA-256' }).click();
  assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^[0-9a-f]{64}$/);
  await until('it is found in the grid', () => dialog.getByRole('button', { name: 'the next' }).count());
  await page.keyboard.press('ArrowRight');
  await until('another job', async () => !page.url().includes('image%3A21'));
  await page.keyboard.press('ArrowLeft');
  await until('the job again', async () => page.url().includes('image%3A21'));
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'detached' });
  assert.ok(!page.url().includes('job='));
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test('everything can be done with keys alone', async () => {
  const page = await open(browser, vault, { path: '/?label=project:sea' });
  await page.locator('li.tile a').nth(6).waitFor();
  await page.keyboard.press('?');
  await page.getByRole('dialog', { name: 'Keys' }).waitFor();
  await accessible(page, 'keys');
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.evaluate(() => document.activeElement?.blur());
  await page.keyboard.press('Home');
  const focused = () => page.evaluate(() => document.activeElement?.getAttribute('data-index'));
  await until('the first has the focus', async () => (await focused()) === '0');
  await page.keyboard.press('ArrowRight');
  await until('the second has', async () => (await focused()) === '1');
  await page.keyboard.press('ArrowDown');
  await until('one below has', async () => Number(await focused()) > 1);
  const at = await focused();
  await page.keyboard.press('Space');
  await page.getByText('1 job selected').waitFor();
  await page.keyboard.press('Shift+ArrowRight');
  await page.getByText('2 jobs selected').waitFor();
  await page.keyboard.press('c');
  const links = await until('links', () => page.evaluate(() => navigator.clipboard.readText()).then((text) => text.includes('/content') && text));
  assert.equal(links.split('\n').length, 2);
  await page.keyboard.press('Escape');
  await page.getByText('jobs selected').waitFor({ state: 'detached' });
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').getByRole('heading', { level: 2 }).waitFor();
  await page.keyboard.press('Escape');
  await until('the focus is back', async () => Number(await focused()) >= Number(at));
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test('what is stuck is told with its reason, and retried together', async () => {
  const ids = [];
  for (const number of [40, 41, 42]) {
    vault.broken.add(`/png/${number}.png`);
    ids.push(await vault.job(number, { replyRef: `broken-${number}` }));
  }
  const refused = await vault.job(43, { replyRef: 'elsewhere', host: 'http://cdn.example.net' });
  for (const id of [...ids, refused]) assert.equal((await vault.ended(id)).state, 'stuck');
  const page = await open(browser, vault);
  const needs = page.getByRole('region', { name: 'what needs you' });
  await needs.getByText('3 stuck').waitFor();
  await needs.getByText('"cdn.example.net"', { exact: true }).waitFor();
  await accessible(page, 'needs');
  vault.broken.clear();
  await page.goto(`${vault.url}/?state=stuck&q=broken`);
  for (const number of [40, 42]) {
    await tile(page, `broken-${number}`).hover();
    await tile(page, `broken-${number}`).getByRole('button').click(number === 42 ? {} : { modifiers: [] });
  }
  await page.getByText('2 jobs selected').waitFor();
  await page.getByRole('region', { name: 'selected jobs' }).getByRole('button', { name: 'Retry' }).click();
  for (const number of [40, 42]) await until('it is archived', async () => (await vault.api(`jobs/${encodeURIComponent(vault.id('image', number))}`)).state === 'archived');
  await page.goto(vault.url);
  await needs.getByText('1 stuck').first().waitFor();
  await needs.locator('li', { hasText: 'broken-41' }).getByRole('button', { name: 'Retry' }).click();
  await until('it is archived', async () => (await vault.api(`jobs/${encodeURIComponent(ids[1])}`)).state === 'archived');
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test('events that nobody took are told of, and sent again', async () => {
  vault.refusesEvents = true;
  for (const number of [46, 47]) await vault.ended(await vault.job(number, { replyRef: `told-${number}` }));
  await until('two dead events', async () => (await vault.api('stats')).notificationsDead === 2);
  vault.refusesEvents = false;
  const page = await open(browser, vault);
  const card = page.getByRole('region', { name: 'what needs you' }).locator('li', { hasText: '2 events not delivered' });
  await card.getByText('to pipeline: its receiver wants no more (410)').waitFor();
  await accessible(page, 'dead events');
  await card.getByRole('button', { name: 'Send all again' }).click();
  await until('they are delivered', async () => {
    const { notificationsDead, notificationsPending } = await vault.api('stats');
    return notificationsDead === 0 && notificationsPending === 0;
  });
  await card.waitFor({ state: 'detached' });
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test('the files of what is selected are one zip', async () => {
  const page = await open(browser, vault, { path: '/?q=kettle' });
  for (const at of [0, 2]) {
    await page.locator('li.tile').nth(at).hover();
    await page.locator('li.tile').nth(at).getByRole('button').click();
  }
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Download zip' }).click()]);
  assert.match(download.suggestedFilename(), /^replyvault-\d{4}-\d\d-\d\d\.zip$/);
  const archive = readFileSync(await download.path());
  assert.equal(archive.subarray(0, 4).toString('latin1'), 'PK\x03\x04');
  assert.equal(archive.readUInt16LE(archive.length - 12), 2, 'files in it');
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test('a zip has the files of a job whose id means something else in a query', async () => {
  const id = 'user:1-pixverse:a+b@example.com-video:33';
  const { replyUrl } = await vault.ref('plum');
  const status = { video_status: 1, video_status_name: 'COMPLETED', video_status_final: true };
  await vault.callback(replyUrl, { video_id: id, ...status, prompt: 'a round plum', remove_watermark: 1, url: `${vault.cdnUrl}/mp4/34.mp4` });
  assert.equal((await vault.ended(id)).state, 'archived');
  const page = await open(browser, vault, { path: '/?q=plum' });
  await page.locator('li.tile').first().hover();
  await page.locator('li.tile').first().getByRole('button').first().click();
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Download zip' }).click()]);
  const archive = readFileSync(await download.path());
  assert.equal(archive.readUInt16LE(archive.length - 12), 1, 'files in it');
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test('what a caller wrote is text, wherever it is shown', async () => {
  const id = await vault.job(50, { replyRef: HOSTILE, prompt: HOSTILE, labels: { [`<b>${HOSTILE.slice(0, 40)}`]: HOSTILE } });
  await vault.ended(id);
  const channel = await vault.ref('quarantined');
  await vault.callback(channel.replyUrl, { nothing: HOSTILE });
  const page = await open(browser, vault);
  await page.locator('.ref', { hasText: HOSTILE }).waitFor();
  await page.goto(`${vault.url}/?job=${encodeURIComponent(id)}`);
  await page.getByRole('dialog').locator('.prompt', { hasText: HOSTILE }).waitFor();
  await page.getByRole('button', { name: 'Manifest and callback' }).click();
  await page.locator('pre', { hasText: 'onerror' }).waitFor();
  await page.goto(`${vault.url}/?view=refs`);
  await page.locator('tbody', { hasText: HOSTILE }).waitFor();
  await accessible(page, 'refs');
  await page.goto(`${vault.url}/?view=quarantine`);
  await page.getByRole('button', { name: 'Show the body' }).click();
  await page.locator('pre', { hasText: 'onerror' }).waitFor();
  await accessible(page, 'quarantine');
  await page.goto(`${vault.url}/?q=${encodeURIComponent(HOSTILE)}&job=${encodeURIComponent(HOSTILE)}&label=${encodeURIComponent(`a:${HOSTILE}`)}`);
  await page.getByText('There is no such job.').waitFor();
  assert.equal(await page.evaluate(() => window.hacked), undefined);
  // That there is no such job is a 404, which browsers log themselves.
  assert.deepEqual(page.errors.filter((text) => !text.includes('404')), []);
  await page.context().close();
});

test('refs are registered, shown with their replyUrl, and revoked', async () => {
  const page = await open(browser, vault, { path: '/?view=refs' });
  await page.getByLabel('replyRef').first().fill('from-the-page');
  await page.getByLabel('labels').fill('project=harbour');
  await page.getByRole('button', { name: 'Register' }).click();
  const row = page.locator('tr', { hasText: 'from-the-page' });
  await row.getByText('project: harbour').waitFor();
  await row.getByRole('button', { name: 'Copy replyUrl of from-the-page' }).click();
  assert.match(await page.evaluate(() => navigator.clipboard.readText()), /\/reply\/ref_/);
  await row.getByRole('button', { name: /revoke/ }).click();
  await row.getByRole('button', { name: 'Revoke for good' }).click();
  await row.waitFor({ state: 'detached' });
  assert.deepEqual((await vault.api('refs?replyRef=from-the-page')).items, []);
  await page.getByRole('link', { name: 'Numbers' }).click();
  await page.getByRole('img', { name: /callbacks per minute/ }).waitFor();
  await accessible(page, 'numbers');
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test('a reader sees and cannot act', async () => {
  const page = await open(browser, vault, { token: 'browser-reader-token' });
  await tile(page, 'clip').waitFor();
  assert.equal(await page.getByRole('button', { name: 'Retry' }).count(), 0);
  await page.getByRole('link', { name: 'Refs' }).click();
  await page.locator('tbody tr').first().waitFor();
  assert.equal(await page.getByText('/reply/ref_').count(), 0);
  assert.equal(await page.getByRole('button', { name: 'Register' }).count(), 0);
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test('it fits a phone, in dark, and pulls less than 2 MB', async () => {
  for (let number = 100; number < 160; number += 1) await vault.job(number, { prompt: `one of sixty`, replyRef: `many-${number}` });
  await vault.ended(vault.id('image', 159));
  for (const [width, colorScheme] of [[360, 'dark'], [820, 'light']]) {
    const page = await open(browser, vault, { viewport: { width, height: 740 }, hasTouch: true, colorScheme, path: '/?q=sixty' });
    let pulled = 0;
    page.on('response', async (response) => (pulled += (await response.body().catch(() => Buffer.alloc(0))).length));
    await page.reload();
    await page.locator('img.media').first().waitFor();
    for (let at = 0; at < 12; at += 1) await page.mouse.wheel(0, 500);
    await page.waitForLoadState('networkidle').catch(() => {});
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false, `${width}: wider than the screen`);
    assert.ok(pulled < 2_000_000, `${pulled} bytes`);
    await accessible(page, `grid at ${width}`);
    await page.locator('li.tile a').first().click();
    await page.getByRole('dialog').getByRole('heading', { level: 2 }).waitFor();
    await accessible(page, `job at ${width}`);
    assert.deepEqual(page.errors, []);
    await page.context().close();
  }
});

test('changes are heard again after the stream of events was refused', async () => {
  const page = await open(browser, vault);
  const events = /\/api\/v1\/events$/;
  await page.route(events, (route) => route.fulfill({ status: 503 }));
  await page.reload();
  await page.getByText('The connection is lost.').waitFor();
  await page.locator('li.tile a').first().waitFor();
  await vault.job(170, { replyRef: 'unheard', percent: 10 });
  await page.unroute(events);
  await tile(page, 'unheard').waitFor();
  await page.getByText('The connection is lost.').waitFor({ state: 'detached' });
  await vault.job(171, { replyRef: 'heard-again', percent: 10 });
  await tile(page, 'heard-again').waitFor();
  // Browsers log the 503 themselves.
  assert.deepEqual(page.errors.filter((text) => !text.includes('503')), []);
  await page.context().close();
});

test('one count runs at a time, and once more after what changed meanwhile', async () => {
  const page = await open(browser, vault, { path: '/?q=picture' });
  await page.getByRole('status').filter({ hasText: /\d jobs?/ }).waitFor();
  await page.locator('li.tile a').first().waitFor();
  const held = [];
  await page.route(/\/api\/v1\/jobs\/days/, (route) => void held.push(route));
  for (const number of [180, 181, 182]) {
    await vault.job(number, { percent: 10 });
    await tile(page, `job-${number}`).waitFor();
  }
  assert.equal(held.length, 1, 'counts at a time');
  await held.pop().continue();
  await until('the last count', () => held.length === 1);
  await held.pop().continue();
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test('without a token that is known nothing is shown', async () => {
  const page = await (await browser.newContext()).newPage();
  await page.goto(vault.url);
  await page.getByLabel('Token').fill('wrong');
  await accessible(page, 'sign-in');
  await page.getByRole('button', { name: 'Open' }).click();
  await page.getByText('That token is not known here.').waitFor();
  await page.context().close();
});
