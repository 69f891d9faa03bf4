// Pictures of each audience's screens at phone and desktop size; also the check that no page is wider than its window,
// from the narrowest phone on, that none fails, and that a screen reader has a name for each control.
// node pictures.mjs '{base, accounts, pages: [{role, entrance, path, name}]}' FOLDER ('' for none)
import { connected, openBrowser, openWindow, signIn } from './city.mjs'

const { base, accounts, pages } = JSON.parse(process.argv[2])
const folder = process.argv[3]
// The README's pictures show a common phone; the check takes the narrowest there is.
const SIZES = [folder ? [390, 844] : [360, 740], [1280, 800]]
const city = await openBrowser()
const wide = []
const nameless = new Set()

/** Waits until nothing is being loaded or drawn any more. */
async function settled(page) {
  await page.waitForFunction(() => document.fonts.status === 'loaded' && !document.querySelector('[aria-busy=true], .animate-pulse'))
  await page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))))
}

/** Controls that a screen reader can only call by their kind. Runs in the page. */
function withoutName() {
  const isNamed = (control) =>
    control.ariaLabel || control.getAttribute('aria-labelledby') || control.title || control.labels?.length > 0 ||
    (control.matches('button, a') && (control.textContent.trim() || control.querySelector('img[alt]:not([alt=""])')))
  const controls = [...document.querySelectorAll('input:not([type=hidden]), select, textarea, button, a[href]')]
  return controls.filter((control) => !isNamed(control)).map((control) => control.outerHTML.slice(0, 200))
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
        for (const control of await page.evaluate(withoutName)) nameless.add(`${path}: ${control}`)
        if (folder) await page.screenshot({ path: `${folder}/${name}_${width}.png` })
      }
    }
    await page.context().close()
  }
  process.stdout.write(JSON.stringify({ wide, nameless: [...nameless], faults: city.faults }))
} finally {
  await city.browser.close()
}
