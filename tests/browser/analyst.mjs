// An analyst's work: look for a column, run the statement from the keyboard, see rows and chart, take the file along, and
// read what is wrong with a wrong statement.
// Input: one JSON object on the command line {base, analyst}. Output: what was seen, as JSON.
import { readFileSync } from 'node:fs'
import { connected, openBrowser, openWindow, signIn } from './city.mjs'

const { base, analyst } = JSON.parse(process.argv[2])
const city = await openBrowser()
try {
  const desk = await openWindow(city, [1280, 900])
  await signIn(desk, base, 'staff', analyst)
  await desk.goto(`${base}/staff/analyst`)
  await connected(desk)
  await desk.locator('summary', { hasText: /^coupon_uses$/ }).click()
  await desk.locator('details[open]').getByRole('button', { name: 'net_yen' }).waitFor()

  const editor = desk.locator('.cm-content')
  await editor.click()
  await desk.keyboard.press('Control+Enter')
  const result = desk.locator('section[aria-label="結果"]')
  const rows = Number.parseInt(await result.locator('[role=status] b').innerText(), 10)
  const shown = await result.locator('tbody tr').count()
  await result.locator('button:has-text("グラフ")').click()
  await result.getByLabel('グラフにする値').waitFor()
  const waiting = desk.waitForEvent('download')
  await result.locator('button:has-text("CSV")').click()
  const csv = readFileSync(await (await waiting).path(), 'utf8')

  await editor.click()
  await desk.keyboard.press('Control+A')
  await desk.keyboard.insertText('SELECT no_such_column FROM coupon_uses')
  await desk.keyboard.press('Escape')
  await desk.keyboard.press('Control+Enter')
  const wrong = await desk.locator('[role=alert]', { hasText: '実行できませんでした' }).innerText()
  process.stdout.write(JSON.stringify({ rows, shown, csv, wrong, faults: city.faults }))
} finally {
  await city.browser.close()
}
