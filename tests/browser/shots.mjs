// Pictures of every view, at three widths, light and dark: node shots.mjs [DIR]
// With README as DIR it makes the picture in the README instead.
import { mkdirSync } from 'node:fs';
import { ADMIN, Vault, draw, launch, open, until } from './vault.mjs';

const where = process.argv[2] ?? '/tmp/shots';
const PROMPTS = ['A paper boat crosses a flooded street at dusk, slow dolly, rain on the lens', 'Product shot of a green kettle on linen', 'A lighthouse in fog, the beam sweeps', 'Moths around a lamp, macro', 'Market stalls in the morning, hand-held', 'Rain on glass, a song from the next room', 'Harbour cranes at night, long exposure'];
const NAMES = ['boat', 'kettle-batch', 'lighthouse', 'moth', 'market', 'rain-kit', 'harbour'];

/** Hills under a sky, each number's own. */
function landscape(number) {
  const [width, height] = [480, 360];
  const skies = [[[26, 42, 68], [232, 150, 112]], [[92, 138, 168], [244, 226, 196]], [[40, 34, 62], [190, 110, 132]], [[116, 148, 138], [238, 226, 190]], [[18, 28, 44], [94, 128, 150]], [[168, 110, 78], [250, 216, 160]]];
  const [high, low] = skies[(number * 5) % skies.length];
  const random = (seed) => Math.abs(Math.sin(seed * 12.9898 + number * 78.233) * 43758.5453) % 1;
  const [sunX, sunY, sun] = [width * (0.2 + 0.6 * random(1)), height * (0.25 + 0.25 * random(2)), 16 + 26 * random(3)];
  const hills = Array.from({ length: 4 }, (_, at) => {
    const [base, wide, tall, shift] = [height * (0.5 + at * 0.13), 60 + 120 * random(at + 4), 14 + 26 * random(at + 9), 9 * random(at + 14)];
    return (x) => base - tall * Math.sin(x / wide + shift) - tall * 0.45 * Math.sin((x / wide) * 2.7 + shift * 2) - 2 * Math.sin(x / 9 + shift * 5);
  });
  return draw(number, width, height, (x, y) => {
    const hill = hills.findLastIndex((top) => y > top(x));
    const mix = (a, b, share) => a.map((part, at) => part + (b[at] - part) * share);
    const haze = mix(high, low, Math.min(1, y / (height * 0.62)));
    if (hill >= 0) return mix(mix(low, high, 0.45), [12, 16, 22], 0.22 + hill * 0.24);
    const near = Math.hypot(x - sunX, y - sunY);
    return near < sun ? [255, 240, 214] : mix(haze, [255, 232, 200], Math.max(0, 0.5 - (near - sun) / 220));
  });
}

const [vault, browser] = await Promise.all([Vault.start({ isTold: true }), launch()]);
vault.picture = landscape;
try {
  if (where !== 'README') {
    const empty = await open(browser, vault);
    await empty.getByRole('heading', { name: 'Nothing has been made yet' }).waitFor();
    mkdirSync(where, { recursive: true });
    await empty.screenshot({ path: `${where}/setup-1280-light.png` });
    await empty.context().close();
  }
  let last;
  for (let number = 1; number <= 90; number += 1) {
    const kind = number % 9 === 4 ? 'video' : 'image';
    const name = NAMES[number % NAMES.length];
    last = await vault.job(number, { kind, replyRef: `${name}-${String(number).padStart(3, '0')}`, prompt: PROMPTS[number % PROMPTS.length], ago: Math.floor((90 - number) ** 1.5 / 24), labels: { project: number % 2 ? 'harbour' : 'tea' } });
  }
  await vault.ended(last);
  await vault.job(91, { kind: 'video', replyRef: 'lighthouse-092', prompt: PROMPTS[2], percent: 64 });
  await vault.job(92, { replyRef: 'kettle-batch-093', prompt: PROMPTS[1], percent: 18 });
  await vault.ended(await vault.job(93, { replyRef: 'kettle-04', host: 'http://cdn.example.net' }));
  const { replyUrl } = await vault.ref('unknown');
  await vault.callback(replyUrl, { status: 'odd', note: 'a body of no known form' });
  if (where !== 'README') {
    vault.refusesEvents = true;
    await vault.ended(await vault.job(94, { replyRef: 'lighthouse-095', prompt: PROMPTS[2] }));
    await until('a dead event', async () => (await vault.api('stats')).notificationsDead);
  }

  const ready = (page) => until('pictures', () => page.evaluate(() => {
    const pictures = [...document.querySelectorAll('img.media:not(.missing)')].filter((picture) => picture.getBoundingClientRect().top < innerHeight);
    return pictures.length > 0 && pictures.every((picture) => picture.complete);
  }));
  // Stills of the videos, as somebody who looks leaves them.
  const first = await (await browser.newContext({ viewport: { width: 480, height: 360 } })).newPage();
  for (const { jobId, assets } of (await vault.api('jobs?kind=video&state=archived&limit=200')).items) {
    await first.goto(`${vault.cdnUrl}/png/${jobId.split(':').pop()}.png`);
    const body = await first.screenshot({ type: 'jpeg', quality: 80 });
    await fetch(`${vault.url}/api/v1/media/${assets[0].sha256}/thumbnail`, { method: 'POST', headers: { Authorization: `Bearer ${ADMIN}` }, body });
  }
  await first.context().close();

  if (where === 'README') {
    const page = await open(browser, vault, { viewport: { width: 1180, height: 720 } });
    await ready(page);
    await page.waitForTimeout(500);
    await page.screenshot({ path: new URL('../../docs/gallery.jpg', import.meta.url).pathname, type: 'jpeg', quality: 78 });
  } else {
    for (const [width, height] of [[1440, 900], [820, 1100], [375, 780]]) {
      for (const colorScheme of ['light', 'dark']) {
        const page = await open(browser, vault, { viewport: { width, height }, colorScheme });
        const shot = async (name) => {
          await page.waitForTimeout(450);
          await page.screenshot({ path: `${where}/${name}-${width}-${colorScheme}.png` });
        };
        await ready(page);
        await shot('grid');
        await page.locator('li.tile a').nth(6).click({ modifiers: ['Shift'] });
        await shot('selected');
        await page.keyboard.press('Escape');
        await page.goto(`${vault.url}/?job=${encodeURIComponent(vault.id('image', 89))}`);
        await page.getByRole('dialog').waitFor();
        await shot('job');
        await page.goto(`${vault.url}/?view=refs`);
        await page.locator('tbody tr').first().waitFor();
        await shot('refs');
        await page.goto(`${vault.url}/?view=numbers`);
        await shot('numbers');
        await page.goto(`${vault.url}/?view=quarantine`);
        await shot('quarantine');
        await page.goto(`${vault.url}/?q=nothinglikethat`);
        await shot('nothing');
        await page.goto(vault.url);
        await page.keyboard.press('?');
        await shot('keys');
        await page.context().close();
      }
    }
    const page = await (await browser.newContext({ viewport: { width: 900, height: 700 } })).newPage();
    await page.goto(vault.url);
    await page.getByLabel('Token').waitFor();
    await page.screenshot({ path: `${where}/sign-in-900-light.png` });
  }
} finally {
  await browser.close();
  await vault.stop();
}
