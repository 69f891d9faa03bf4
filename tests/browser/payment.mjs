// One payment, seen to arrive in two windows: the guardian's phone and the facility's screen.
// Input: one JSON object on the command line {base, guardian, staff, payment}. Output: what was seen, as JSON.
import { connected, openBrowser, openWindow, signIn } from './city.mjs'

const { base, guardian, staff } = JSON.parse(process.argv[2])
const city = await openBrowser()
try {
  const phone = await openWindow(city, [390, 844])
  await signIn(phone, base, 'guardian', guardian)
  await connected(phone)
  const tablet = await openWindow(city, [1280, 800])
  await signIn(tablet, base, 'staff', staff)
  await tablet.goto(`${base}/staff/facility`)
  await connected(tablet)

  // The facility's code, as it hangs at the door, typed in as one does without a camera.
  const code = await tablet.evaluate(async () => {
    const me = await (await fetch('/v1/session')).json()
    return (await (await fetch(`/v1/facilities/${me.account.facility_id}/coupon-qr`)).json()).display
  })
  const balance = () => phone.$$eval('[data-balance]', (tickets) => tickets.map((ticket) => Number(ticket.dataset.balance)))
  const rows = () => tablet.locator('tbody tr').count()
  const [before, rowsBefore] = [await balance(), await rows()]

  // Paying happens in a window of its own, so that the phone's home shows only what arrives live.
  const payer = await openWindow(city, [390, 844])
  await payer.context().addCookies(await phone.context().cookies())
  await payer.goto(`${base}/pay`)
  await payer.fill('input[name=code]', code)
  await payer.click('text=この文字で進む')
  await payer.waitForSelector('input[name=amount_yen]')
  // The first choice of each question: whose coupon, for which programme.
  const groups = await payer.$$eval('form input[type=radio]', (radios) => [...new Set(radios.map((radio) => radio.name))])
  for (const name of groups) await payer.locator(`input[type=radio][name="${name}"]`).first().check()
  await payer.fill('input[name=amount_yen]', '210')
  await payer.click('text=確認へ進む')
  await payer.click('button:has-text("支払う")')
  await payer.waitForSelector('text=お支払いが完了しました')

  await phone.waitForFunction(
    (total) => [...document.querySelectorAll('[data-balance]')].reduce((sum, ticket) => sum + Number(ticket.dataset.balance), 0) === total,
    before.reduce((sum, yen) => sum + yen, 0) - 210,
  )
  await tablet.waitForFunction((n) => document.querySelectorAll('tbody tr').length === n, rowsBefore + 1)
  const top = await tablet.locator('tbody tr').first().innerText()
  process.stdout.write(JSON.stringify({ before, after: await balance(), top, faults: city.faults }))
} finally {
  await city.browser.close()
}
