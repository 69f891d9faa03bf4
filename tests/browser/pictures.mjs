// Pictures of each audience's screens at phone and desktop size; also the check that no page is wider than its window
// and that none fails. node pictures.mjs '{base, accounts, pages: [{role, entrance, path, name}]}' FOLDER ('' for none)
import { connected, openBrowser, openWindow, signIn } from './city.mjs'

const { base, accounts, pages } = JSON.parse(process.argv[2])
const folder = process.argv[3]
const SIZES = [[390, 844], [1280, 800]]
const city = await openBrowser()
const wide = []

/** Waits until nothing is being loaded or drawn any more. */
async function settled(page) {
  await page.waitForFunction(() => document.fonts.status === 'loaded' && !document.querySelector('[aria-busy=true], .animate-pulse'))
  await page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))))
}

try {
  for (const role of new Set(pages.map((page) => page.role))) {
    const own = pages.filter((page) => page.role === role)
    const page = await openWindow(city, SIZES[0])
    await signIn(page, base, own[0].entrance, accounts[role])
    for (const { path, name } of own) {
      for (const [width, height] of SIZES) {
        await page.setViewportSize({ width, height })
        await page.goto(base + path)
        await page.waitForSelector('h1')
        await connected(page)
        await settled(page)
        const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
        if (over > 0) wide.push(`${path} at ${width}: ${over} px too wide`)
        if (folder) await page.screenshot({ path: `${folder}/${name}_${width}.png` })
      }
    }
    await page.context().close()
  }
  process.stdout.write(JSON.stringify({ wide, faults: city.faults }))
} finally {
  await city.browser.close()
}
