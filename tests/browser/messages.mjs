// The operator finds a message that arrived, corrects its words and takes it back; the list and the family's inbox follow.
// Input: one JSON object on the command line {base, operator, guardianNo, type}. Output: what was seen, as JSON.
import { connected, openBrowser, openWindow, signIn } from './city.mjs'

const { base, operator, guardianNo, type } = JSON.parse(process.argv[2])
const city = await openBrowser()
try {
  const desk = await openWindow(city, [1280, 900])
  await signIn(desk, base, 'staff', operator)
  await desk.goto(`${base}/staff/operator/deliveries`)
  await connected(desk)
  await desk.click('button:has-text("お知らせをさがす")')
  await desk.fill('input[name=q]', guardianNo)
  await desk.fill('input[name=type]', type)
  await desk.click('form button:has-text("さがす")')
  // Rows of the question before may still be shown.
  await desk.waitForFunction(
    ([no, type]) => {
      const rows = [...document.querySelectorAll('tbody tr')].map((row) => row.textContent)
      return rows.length > 0 && rows.every((row) => row.includes(no) && row.includes(type))
    },
    [guardianNo, type],
  )
  // The newest comes first.
  const first = desk.locator('tbody tr').first()
  const row = await first.innerText()
  await first.getByRole('button').click()
  await desk.click('dialog[open] button:has-text("このお知らせを訂正する")')
  await desk.fill('dialog[open] input[name=title]', '訂正：お支払い')
  await desk.fill('dialog[open] textarea[name=body]', 'お支払いの内容を訂正します。')
  await desk.click('dialog[open] button:has-text("訂正を送る")')
  await desk.waitForSelector('dialog[open] p:has-text("訂正：お支払い")')
  await desk.waitForSelector('tbody tr:first-child:has-text("訂正：お支払い")')
  const corrected = await first.innerText()

  await desk.click('dialog[open] button:has-text("このお知らせを取り下げる")')
  await desk.getByRole('button', { name: '取り下げる', exact: true }).click()
  await desk.waitForSelector('tbody tr:first-child:has-text("取下げ済み")')
  const withdrawn = await first.innerText()
  const over = await desk.evaluate(() => document.documentElement.scrollWidth - innerWidth)
  process.stdout.write(JSON.stringify({ row, corrected, withdrawn, over, faults: city.faults }))
} finally {
  await city.browser.close()
}
