// What the tracker keeps while the phone is out of reach is sent when it is back, and the last screen when the page goes.
// Input: one JSON object on the command line {base, guardian}. Output: the usage session, as JSON.
import { connected, openBrowser, openWindow, signIn } from './city.mjs'

const { base, guardian } = JSON.parse(process.argv[2])
const city = await openBrowser()
try {
  const phone = await openWindow(city, [390, 844])
  await signIn(phone, base, 'guardian', guardian)
  await phone.goto(base)
  await connected(phone)
  // The title changes when the screen is there and the tracker has been told.
  const open = async (path, title) => {
    await phone.locator(`a[href="${path}"]`).first().click()
    await phone.waitForFunction((begin) => document.title.startsWith(begin), `${title}｜`)
  }
  await open('/inbox', '受信箱')
  await open('/', 'ホーム')
  await phone.context().setOffline(true)
  await open('/surveys', 'アンケート')
  await open('/inbox', '受信箱')
  const sent = phone.waitForResponse((answer) => answer.url() === `${base}/v1/usage` && answer.ok())
  await phone.context().setOffline(false)
  await sent
  await connected(phone)
  await open('/pay', '支払い')
  const session = await phone.evaluate(() => JSON.parse(localStorage.getItem('todoke.usage-session')).session_id)
  // Leaving the site is the end of the page: what is left goes by beacon.
  await phone.goto('about:blank')
  // Another person's window shares nothing with it; by the time it shows something the beacon is on its way.
  const other = await openWindow(city, [390, 844])
  await other.goto(base)
  await other.waitForSelector('h1')
  process.stdout.write(JSON.stringify({ session, faults: city.faults }))
} finally {
  await city.browser.close()
}
