// Pictures of every view, at three widths, light and dark: node shots.mjs [DIR]
// With README as DIR it makes the picture in the README instead.
import { mkdirSync } from 'node:fs';
import { Vault, launch, open, until } from './vault.mjs';

const where = process.argv[2] ?? '/tmp/shots';
const PROMPTS = ['A paper boat crosses a flooded street at dusk, slow dolly, rain on the lens', 'Product shot of a green kettle on linen', 'A lighthouse in fog, the beam sweeps', 'Moths around a lamp, macro', 'Market stalls in the morning, hand-held', 'Rain on glass, a song from the next room', 'Harbour cranes at night, long exposure'];
const NAMES = ['boat', 'kettle-batch', 'lighthouse', 'moth', 'market', 'rain-kit', 'harbour'];

const [vault, browser] = await Promise.all([Vault.start(), launch()]);
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

  const ready = (page) => until('pictures', () => page.evaluate(() => {
    const pictures = [...document.querySelectorAll('img.media:not(.missing)')].filter((picture) => picture.getBoundingClientRect().top < innerHeight);
    return pictures.length > 3 && pictures.every((picture) => picture.complete);
  }));
  // Stills of the videos, as somebody who looks leaves them.
  const first = await open(browser, vault, { path: '/?kind=video' });
  for (const tile of await first.locator('li.tile').all()) {
    await tile.hover().catch(() => {});
    await first.waitForTimeout(400);
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
