// A browser for people of the demo: one window per person, signed in through the pages as they would.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'

const NO_BACKGROUND = '--disable-background-networking'
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', NO_BACKGROUND, '--disable-component-update', '--disable-sync']
const LIMIT_MS = 60_000
const PROGRAM = process.env.TODOKE_TEST_CHROMIUM ?? '/usr/bin/chromium'
const JAPAN = { locale: 'ja-JP', timezoneId: 'Asia/Tokyo' }

/** Chromium, and what went wrong in any of its pages. */
export async function openBrowser() {
  const browser = await chromium.launch({ executablePath: PROGRAM, args: FLAGS, timeout: 120_000 })
  return { browser, faults: [] }
}

/** A window of its own, with its own cookies. */
export async function openWindow({ browser, faults }, [width, height], locale = JAPAN.locale) {
  const context = await browser.newContext({ viewport: { width, height }, ...JAPAN, locale })
  context.setDefaultTimeout(LIMIT_MS)
  const page = await context.newPage()
  page.on('pageerror', (error) => faults.push(`${page.url()}: ${error.message}`))
  return page
}

/** A browser with a profile on disk, for what private windows cannot do, such as subscribing to push; `flags` come on top. */
export async function openProfile([width, height], flags) {
  const profile = await mkdtemp(join(tmpdir(), 'todoke-browser-'))
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: PROGRAM, viewport: { width, height }, ...JAPAN, timeout: 120_000,
    args: [...FLAGS.filter((flag) => flag !== NO_BACKGROUND), ...flags], ignoreDefaultArgs: [NO_BACKGROUND],
  })
  context.setDefaultTimeout(LIMIT_MS)
  const close = async () => {
    await context.close()
    await rm(profile, { recursive: true, force: true, maxRetries: 5 })
  }
  return { context, faults: [], close }
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
