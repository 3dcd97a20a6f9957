// How fast the gallery is with many jobs: node measure.mjs JOBS [DAYS]. Seeds a vault over HTTP, then asks and looks.
import { Agent, request } from 'node:http';
import { Vault, launch, open, until } from './vault.mjs';

const JOBS = Number(process.argv[2] ?? 100_000);
const DAYS = Number(process.argv[3] ?? 365);
// Many stay running: to write a manifest for each of a million takes half an hour.
const END = JOBS > 100_000 ? { status: 1, statusLabel: 'processing' } : { status: 3, statusLabel: 'failed', statusFinal: true };
const WORDS = 'paper boat crosses flooded street dusk slow dolly rain lens green kettle linen cloth lighthouse fog beam moth lamp macro market stalls morning harbour cranes night exposure glass song room'.split(' ');

const vault = await Vault.start();
const agent = new Agent({ keepAlive: true, maxSockets: 96 });
const { replyUrl } = await vault.ref('seed');
const target = new URL(replyUrl);

const send = (body) =>
  new Promise((resolve, reject) => {
    const call = request({ host: target.hostname, port: target.port, path: target.pathname, method: 'POST', agent, headers: { 'Content-Length': Buffer.byteLength(body) } }, (answer) => {
      answer.resume().on('end', () => (answer.statusCode === 200 ? resolve() : reject(new Error(String(answer.statusCode)))));
    });
    call.on('error', reject).end(body);
  });

const started = Date.now();
let next = 0;
const work = async () => {
  while (next < JOBS) {
    const number = (next += 1);
    const kind = number % 3 ? 'image' : 'video';
    const prompt = Array.from({ length: 14 }, (_, at) => WORDS[(number * (at + 3) + at * at) % WORDS.length]).join(' ');
    const ago = ((JOBS - number) / JOBS) * DAYS * 86_400_000;
    await send(JSON.stringify({ [kind === 'video' ? 'videoId' : 'imageId']: vault.id(kind, 1_000_000 + number), ...END, desc: `${prompt}${number === 77 ? ' zebrafish' : ''}`, createTime: Math.round(Date.now() - ago) }));
  }
};
await Promise.all(Array.from({ length: 96 }, work));
const seeded = (Date.now() - started) / 1000;
console.log(`${JOBS} jobs seeded in ${seeded.toFixed(0)} s, ${Math.round(JOBS / seeded)} callbacks a second`);
await until('the end of all jobs', () => vault.api('stats').then(({ jobs }) => jobs.failed + jobs.running === JOBS), 1_800_000);
await until('the index', () => vault.api('jobs?limit=1&q=zebrafish').then(({ items }) => items.length === 1, () => false), 600_000);

const percentile = (times, share) => times.toSorted((a, b) => a - b)[Math.min(times.length - 1, Math.floor(times.length * share))].toFixed(1);
const day = (ago) => new Date(Date.now() - ago * 86_400_000).toISOString().slice(0, 10);
for (const [what, path] of [
  ['first page', () => 'jobs?limit=60'],
  ['page in the middle', (at) => `jobs?limit=60&skip=${Math.floor((JOBS * (at % 97)) / 97)}`],
  ['one day', (at) => `jobs?limit=60&from=${day(at % DAYS)}&to=${day(at % DAYS)}`],
  ['a rare word', () => 'jobs?limit=60&q=zebrafish'],
  ['a rare beginning', () => 'jobs?limit=60&q=zebra*'],
  ['a word nobody used', () => 'jobs?limit=60&q=xylophone'],
  ['two common words', () => 'jobs?limit=60&q=paper+moth&kind=video'],
  ['days', () => 'jobs/days'],
  ['days with a word', () => 'jobs/days?q=kettle'],
]) {
  const times = [];
  for (let at = 0; at < 200; at += 1) {
    const begin = performance.now();
    await vault.api(path(at));
    times.push(performance.now() - begin);
  }
  console.log(`${what}: p50 ${percentile(times, 0.5)} ms, p99 ${percentile(times, 0.99)} ms`);
}

const browser = await launch();
const page = await open(browser, vault);
await page.locator('li.tile a').first().waitFor();
const begin = performance.now();
await page.reload();
await page.locator('li.tile a').first().waitFor();
console.log(`first page in the browser: ${Math.round(performance.now() - begin)} ms`);
const times = [];
for (let at = 1; at <= 20; at += 1) {
  const box = await page.locator('.days').boundingBox();
  const began = performance.now();
  await page.mouse.click(box.x + box.width / 2, box.y + (box.height * ((at * 13) % 97)) / 97);
  await page.waitForFunction(() => {
    const tiles = [...document.querySelectorAll('li.tile')].filter((tile) => { const box = tile.getBoundingClientRect(); return box.bottom > 120 && box.top < innerHeight; });
    return tiles.length > 4 && tiles.every((tile) => !tile.classList.contains('wait'));
  }, undefined, { polling: 'raf' });
  times.push(performance.now() - began);
}
console.log(`going to a day: p50 ${percentile(times, 0.5)} ms, worst ${percentile(times, 1)} ms`);
await browser.close();
await vault.stop();
