// A browser for people of the demo: one window per person, signed in through the pages as they would.
import { chromium } from 'playwright-core'

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync']
const LIMIT_MS = 60_000

/** Chromium, and what went wrong in any of its pages. */
export async function openBrowser() {
  const browser = await chromium.launch({ executablePath: process.env.TODOKE_TEST_CHROMIUM ?? '/usr/bin/chromium', args: FLAGS, timeout: 120_000 })
  return { browser, faults: [] }
}

/** A window of its own, with its own cookies. */
export async function openWindow({ browser, faults }, [width, height]) {
  const context = await browser.newContext({ viewport: { width, height }, locale: 'ja-JP', timezoneId: 'Asia/Tokyo' })
  context.setDefaultTimeout(LIMIT_MS)
  const page = await context.newPage()
  page.on('pageerror', (error) => faults.push(`${page.url()}: ${error.message}`))
  return page
}

async function newestCode(base, email, known) {
  for (const deadline = Date.now() + LIMIT_MS; Date.now() < deadline; ) {
    const answer = await fetch(`${base}/demo/mail.json?to=${encodeURIComponent(email)}`)
    const codes = (await answer.json()).map((mail) => mail.code).filter(Boolean)
    if (codes.length > known) return codes[0]
  }
  throw new Error(`no code was mailed to ${email}`)
}

/** Signs in with password and mailed code, from the entrance of the person's kind. */
export async function signIn(page, base, entrance, person) {
  await page.goto(base + (entrance === 'staff' ? '/staff/login' : '/login'))
  await signInHere(page, base, person)
}

/** Signs in on the login page that is open. */
export async function signInHere(page, base, { email, password }) {
  const before = (await (await fetch(`${base}/demo/mail.json?to=${encodeURIComponent(email)}`)).json()).filter((mail) => mail.code).length
  await page.fill('input[name=email]', email)
  await page.fill('input[name=password]', password)
  await page.click('button[type=submit]')
  await page.waitForSelector('input[name=code]')
  await page.fill('input[name=code]', await newestCode(base, email, before))
  await page.click('button[type=submit]')
  await page.waitForSelector('input[name=code]', { state: 'detached' })
}

/** Waits until the page says that it is connected to the live channel. */
export async function connected(page) {
  await page.waitForSelector('[data-connection=connected]', { state: 'attached' })
}
