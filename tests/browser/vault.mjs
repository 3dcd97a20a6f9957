// The real service on a free port, a server of media, and a browser to look with.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createSocket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateSync, crc32 } from 'node:zlib';
import { chromium } from 'playwright-core';

const ROOT = new URL('../../', import.meta.url).pathname;
const BINARY = process.env.REPLYVAULT ?? join(ROOT, 'target/debug/replyvault');
export const ADMIN = 'browser-admin-token';
export const READER = 'browser-reader-token';

const media = (name) => readFileSync(join(ROOT, 'crates/simulator/src/media', name));

/** A picture of its own for every number. */
export function png(number, width = 320, height = 240) {
  const hue = (number * 47) % 360;
  return draw(number, width, height, (x, y) => {
    const near = Math.hypot(x - width * (0.3 + (number % 5) / 10), y - height * 0.4) / width;
    return [0, 120, 240].map((shift) => 120 + 90 * Math.cos(((hue + shift) / 180) * Math.PI + near * 3) - near * 60 + (y / height) * 30);
  });
}

/** A PNG whose pixels `colour` says, red, green and blue. */
export function draw(number, width, height, colour) {
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc32(body) >>> 0);
    return Buffer.concat([length, body, sum]);
  };
  const rows = [];
  for (let y = 0; y < height; y += 1) {
    rows.push(0);
    for (let x = 0; x < width; x += 1) for (const part of colour(x, y)) rows.push(Math.max(0, Math.min(255, Math.round(part))));
  }
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width);
  head.writeUInt32BE(height, 4);
  head.set([8, 2, 0, 0, 0], 8);
  const signature = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);
  const text = chunk('tEXt', Buffer.from(`Comment\0${number}`));
  return Buffer.concat([signature, chunk('IHDR', head), text, chunk('IDAT', deflateSync(Buffer.from(rows))), chunk('IEND', Buffer.alloc(0))]);
}

/** An MP4 with a box at its end that makes its bytes its own. */
function mp4(number) {
  const box = Buffer.alloc(16);
  box.writeUInt32BE(16);
  box.write('free', 4);
  box.writeUInt32BE(number, 8);
  return Buffer.concat([media('clip.mp4'), box]);
}

const freePort = () =>
  new Promise((resolve) => {
    const socket = createSocket().listen(0, '127.0.0.1', () => {
      const { port } = socket.address();
      socket.close(() => resolve(port));
    });
  });

/** Waits for what must come. */
export async function until(what, check, patience = 30_000) {
  const end = Date.now() + patience;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > end) throw new Error(`not within ${patience} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export class Vault {
  broken = new Set();
  /** What a picture looks like, by its number. */
  picture = png;
  /** Whether who is told of events wants no more of them. */
  refusesEvents = false;

  /** A service; where `isTold`, with an endpoint that is told what becomes of jobs. */
  static async start({ isTold = false } = {}) {
    const vault = new Vault();
    vault.dir = mkdtempSync(join(tmpdir(), 'replyvault-browser-'));
    vault.cdn = createServer((request, response) => vault.serveMedia(request, response));
    await new Promise((resolve) => vault.cdn.listen(0, '127.0.0.1', resolve));
    vault.cdnUrl = `http://127.0.0.1:${vault.cdn.address().port}`;
    const port = await freePort();
    vault.url = `http://127.0.0.1:${port}`;
    const env = {
      PATH: process.env.PATH,
      REPLYVAULT_SERVER__LISTEN: `127.0.0.1:${port}`,
      REPLYVAULT_SERVER__PUBLIC_URL: vault.url,
      REPLYVAULT_DATA__DIR: join(vault.dir, 'data'),
      REPLYVAULT_STORAGE__URL: `file:${join(vault.dir, 'bucket')}`,
      REPLYVAULT_AUTH__TOKENS: `[{ name = "browser", token = "${ADMIN}", scope = "admin" }, { name = "reader", token = "${READER}", scope = "read" }]`,
      REPLYVAULT_FETCH__ALLOWED_HOSTS: '["127.0.0.1"]',
      REPLYVAULT_FETCH__ALLOW_HTTP: 'true',
      REPLYVAULT_FETCH__ALLOW_PRIVATE_ADDRESSES: 'true',
      REPLYVAULT_FETCH__MAX_ATTEMPTS: '1',
      RUST_LOG: 'warn',
      ...(isTold ? { REPLYVAULT_NOTIFY__ENDPOINTS: `[{ name = "pipeline", url = "${vault.cdnUrl}/hook", secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" }]` } : {}),
    };
    vault.service = spawn(BINARY, ['serve'], { cwd: vault.dir, env, stdio: ['ignore', 'ignore', 'pipe'] });
    vault.log = '';
    vault.service.stderr.on('data', (text) => (vault.log += text));
    await until('the service is ready', () => fetch(`${vault.url}/readyz`).then((answer) => answer.ok, () => vault.service.exitCode !== null && Promise.reject(new Error(vault.log))));
    return vault;
  }

  serveMedia(request, response) {
    const [, kind, number] = request.url.split(/[/.?]/);
    if (kind === 'hook') return void request.resume().on('end', () => response.writeHead(this.refusesEvents ? 410 : 204).end());
    if (!['png', 'mp4', 'mp3'].includes(kind) || this.broken.has(request.url)) return void response.writeHead(404).end();
    const types = { png: 'image/png', mp4: 'video/mp4', mp3: 'audio/mpeg' };
    const bytes = { png: () => this.picture(Number(number)), mp4: () => mp4(Number(number)), mp3: () => media('tone.mp3') }[kind]();
    response.writeHead(200, { 'Content-Type': types[kind], 'Content-Length': bytes.length }).end(bytes);
  }

  async stop() {
    this.service.kill('SIGTERM');
    await new Promise((resolve) => this.service.once('exit', resolve));
    this.cdn.close();
    this.cdn.closeAllConnections();
    rmSync(this.dir, { recursive: true, force: true });
  }

  async api(path, options = {}) {
    const headers = { Authorization: `Bearer ${ADMIN}`, 'Content-Type': 'application/json' };
    const answer = await fetch(`${this.url}/api/v1/${path}`, { headers, ...options });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${answer.status} ${path}: ${text}`);
    return text ? JSON.parse(text) : null;
  }

  /** Registers a ref once, and says where its callbacks go. */
  ref(replyRef, labels = {}) {
    return this.api('refs', { method: 'POST', body: JSON.stringify({ replyRef, labels }) });
  }

  async callback(replyUrl, body) {
    const answer = await fetch(replyUrl, { method: 'POST', body: JSON.stringify(body) });
    if (answer.status !== 200 && answer.status !== 202) throw new Error(`${answer.status}: ${await answer.text()}`);
    return answer.json();
  }

  id = (kind, number) => `user:1-minimax:2-${kind}:${number}`;

  /** A job of this kind, finished or `percent` of the way. */
  async job(number, { kind = 'image', replyRef = `job-${number}`, prompt = `picture number ${number}`, percent = 100, labels, ago = 0, host } = {}) {
    const { replyUrl } = await this.ref(replyRef, labels);
    const final = percent === 100;
    const name = kind === 'video' ? `mp4/${number}.mp4` : `png/${number}.png`;
    const url = `${host ?? this.cdnUrl}/${name}`;
    await this.callback(replyUrl, {
      [kind === 'video' ? 'videoId' : 'imageId']: this.id(kind, number), status: final ? 2 : 1, percent,
      statusLabel: final ? 'completed' : 'processing', statusFinal: final, desc: prompt, replyRef, createTime: Date.now() - ago * 86_400_000,
      ...(final ? { downloadURL: url } : {}),
    });
    return this.id(kind, number);
  }

  async ended(id) {
    return until(`${id} has ended`, async () => {
      const job = await this.api(`jobs/${encodeURIComponent(id)}`);
      return ['archived', 'failed', 'stuck'].includes(job.state) && job;
    });
  }
}

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--autoplay-policy=no-user-gesture-required'];

export const launch = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });

/** A page that is signed in, and notes every error. */
export async function open(browser, vault, { token = ADMIN, path = '/', ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, permissions: ['clipboard-read', 'clipboard-write'], ...options });
  const page = await context.newPage();
  page.errors = [];
  // To try a change to scripts and style without building: they are compiled in.
  if (process.env.UI_FROM_DISK) {
    await context.route(/\/ui\/[0-9a-f]{16}\//, (route) => route.fulfill({ path: join(ROOT, 'src/ui', new URL(route.request().url()).pathname.split('/').slice(3).join('/')) }));
  }
  page.on('console', (message) => message.type() === 'error' && page.errors.push(message.text()));
  page.on('pageerror', (error) => page.errors.push(String(error)));
  await page.goto(`${vault.url}${path}`);
  await page.getByLabel('Token').fill(token);
  await page.getByRole('button', { name: 'Open' }).click();
  await page.locator('header').waitFor();
  return page;
}
