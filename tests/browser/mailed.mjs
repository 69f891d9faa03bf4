// A mailed link, opened by somebody who is not signed in yet: the sign-in leads on to its screen, and that is when the
// message has been read. Input: one JSON object on the command line {base, guardian, link}. Output: what was seen, as JSON.
import { openBrowser, openWindow, signInHere } from './city.mjs'

const { base, guardian, link } = JSON.parse(process.argv[2])
const city = await openBrowser()
try {
  const phone = await openWindow(city, [390, 844])
  const told = phone.waitForResponse((answer) => /^\/v1\/inbox\/[^/]+\/read$/.test(new URL(answer.url()).pathname))
  await phone.goto(link)
  await phone.waitForURL((url) => url.pathname === '/login')
  await signInHere(phone, base, guardian)
  const status = (await told).status()
  await phone.waitForSelector('main h1')
  const { pathname, search } = new URL(phone.url())
  process.stdout.write(JSON.stringify({ status, screen: pathname + search, faults: city.faults }))
} finally {
  await city.browser.close()
}
