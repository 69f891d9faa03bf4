// Somebody of the city makes a key for an outside system, sees it once, changes its sources and ends it; the system uses
// it in between.
// Input: one JSON object on the command line {base, city, events: [of the first source, of the second]}. Output: what
// was seen, as JSON.
import { openBrowser, openWindow, signIn } from './city.mjs'

const { base, city: member, events } = JSON.parse(process.argv[2])
const city = await openBrowser()

/** What the door says to an event of the system. */
async function sent(secret, event) {
  const headers = { Authorization: `Bearer ${secret}`, 'Content-Type': 'application/cloudevents+json' }
  const answer = await fetch(`${base}/v1/events`, { method: 'POST', headers, body: JSON.stringify(event) })
  return answer.status === 202 ? (await answer.json()).accepted : answer.status
}

try {
  const desk = await openWindow(city, [1280, 900])
  await signIn(desk, base, 'staff', member)
  await desk.click('a[href="/staff/city/api-keys"]')
  await desk.click('button:has-text("APIキーを発行する")')
  await desk.fill('dialog[open] input[name=name]', '電話窓口')
  await desk.fill('dialog[open] textarea[name=sources]', '*')
  await desk.click('dialog[open] button[type=submit]')
  const refused = await desk.locator('dialog[open] [id$=-errors]').innerText()
  await desk.fill('dialog[open] textarea[name=sources]', `${events[0].source}\n`)
  await desk.click('dialog[open] button[type=submit]')
  const secret = await desk.locator('[data-secret]').innerText()
  await desk.click('dialog[open] button[aria-label="閉じる"]')
  const row = desk.locator('tbody tr:has-text("電話窓口")')
  const made = await row.innerText()
  const before = [await sent(secret, events[0]), await sent(secret, events[1])]

  await row.getByRole('button', { name: '電話窓口の送信元を変更' }).click()
  await desk.fill('dialog[open] textarea[name=sources]', events[1].source)
  await desk.click('dialog[open] button[type=submit]')
  await desk.waitForSelector('text=送信元を変更しました')
  await desk.locator(`tbody tr:has-text("電話窓口"):has-text("${events[1].source}")`).waitFor()
  const changed = await row.innerText()
  const after = [await sent(secret, events[0]), await sent(secret, events[1])]

  await row.getByRole('button', { name: '電話窓口を終了' }).click()
  await desk.click('dialog[open] button:has-text("終了する")')
  await desk.waitForSelector('text=APIキーを終了しました')
  await row.getByRole('button').first().waitFor({ state: 'detached' })
  const ended = await row.innerText()
  const last = await sent(secret, events[1])
  const shownAgain = (await desk.content()).includes(secret)
  process.stdout.write(JSON.stringify({ refused, secret, made, before, changed, after, ended, last, shownAgain, faults: city.faults }))
} finally {
  await city.browser.close()
}
