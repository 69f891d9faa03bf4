// The operator finds somebody whom nothing reached, sees what was tried and what can be done, sends the mail again and
// corrects the words; the funnel counts it. A letter of no message that came back is sent again from the same list.
// Input: one JSON object on the command line {base, operator, letterNo}. Output: what was seen, as JSON.
import { connected, openBrowser, openWindow, signIn } from './city.mjs'

const { base, operator, letterNo } = JSON.parse(process.argv[2])
const city = await openBrowser()
try {
  const desk = await openWindow(city, [1280, 900])
  await signIn(desk, base, 'staff', operator)
  await desk.goto(`${base}/staff/operator/deliveries`)
  await connected(desk)
  // The newest comes first.
  const contact = desk.locator('ul.panel > li').first()
  const row = await contact.innerText()
  await contact.getByRole('button').click()
  const life = await desk.locator('dialog[open] ul').innerText()
  await desk.click('dialog[open] button:has-text("もう一度送る")')
  await desk.waitForSelector('text=再送の手配をしました')
  await desk.waitForFunction(() => document.querySelectorAll('dialog[open] ul > li').length === 2)

  await desk.click('dialog[open] button:has-text("このお知らせを訂正する")')
  await desk.fill('dialog[open] input[name=title]', '訂正：クーポンの利用')
  await desk.fill('dialog[open] textarea[name=body]', '利用の内容を訂正します。')
  await desk.click('dialog[open] button:has-text("訂正を送る")')
  await desk.waitForSelector('dialog[open] p:has-text("訂正：クーポンの利用")')

  await desk.click('dialog[open] button[aria-label="閉じる"]')
  const returned = desk.locator('ul.panel > li', { hasText: letterNo })
  const letter = await returned.innerText()
  await returned.getByRole('button').click()
  await returned.waitFor({ state: 'detached' })

  await desk.click('button:has-text("種類別の到達・開封")')
  const funnel = await desk.locator('tbody tr:has-text("coupon.used"):has-text("メール")').first().innerText()
  const over = await desk.evaluate(() => document.documentElement.scrollWidth - innerWidth)
  process.stdout.write(JSON.stringify({ row, life, letter, funnel, over, faults: city.faults }))
} finally {
  await city.browser.close()
}
