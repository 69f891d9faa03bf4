// A push in the app's own service worker: shown and counted on the icon, its tap leads the open page to the screen, and
// the inbox can be read without a connection.
// Input: one JSON object on the command line {base, guardian, push}; `push` is what a browser decrypted of the server's.
// Output: what was seen, as JSON.
import { connected, openBrowser, openWindow, signIn } from './city.mjs'

const { base, guardian, push } = JSON.parse(process.argv[2])
const city = await openBrowser()
try {
  const phone = await openWindow(city, [390, 844])
  await phone.context().grantPermissions(['notifications'], { origin: base })
  const devtools = await phone.context().newCDPSession(phone)
  const registered = new Promise((done) => devtools.on('ServiceWorker.workerRegistrationUpdated', ({ registrations: [first] }) => first && done(first.registrationId)))
  await devtools.send('ServiceWorker.enable')
  await signIn(phone, base, 'guardian', guardian)
  await phone.goto(`${base}/inbox`)
  await connected(phone)
  await phone.waitForSelector(`text=${push.title}`)
  await phone.waitForFunction(() => navigator.serviceWorker.controller !== null)
  const worker = phone.context().serviceWorkers()[0]
  // No page can read the number on the icon, so what the worker asks for is noted, and so are the answers to its receipts.
  await worker.evaluate(() => {
    self.badges = []
    const { setAppBadge } = navigator
    navigator.setAppBadge = (n) => (self.badges.push(n), setAppBadge.call(navigator, n))
    const send = self.fetch
    self.told = { displayed: Promise.withResolvers(), opened: Promise.withResolvers() }
    self.fetch = async (address, options) => {
      const answer = await send(address, options)
      const kind = Object.keys(self.told).find((kind) => String(options?.body).includes(`"${kind}"`))
      if (kind) self.told[kind].resolve(answer.status)
      return answer
    }
  })
  await devtools.send('ServiceWorker.deliverPushMessage', { origin: base, registrationId: await registered, data: JSON.stringify(push) })
  const displayed = await worker.evaluate(() => self.told.displayed.promise)
  const shown = await worker.evaluate(async () => {
    const all = await self.registration.getNotifications()
    return all.map(({ title, body, tag }) => ({ title, body, tag }))
  })
  const badges = await worker.evaluate(() => self.badges)

  // A real tap needs a screen with a desktop around it; this one differs in that it may not raise the window.
  await worker.evaluate(async () => {
    const [notification] = await self.registration.getNotifications()
    self.dispatchEvent(new NotificationEvent('notificationclick', { notification }))
  })
  await phone.waitForURL((url) => url.pathname !== '/inbox')
  await phone.waitForSelector('h1')
  const opened = await worker.evaluate(() => self.told.opened.promise)
  const screen = new URL(phone.url()).pathname
  const left = await worker.evaluate(async () => (await self.registration.getNotifications()).length)

  await phone.context().setOffline(true)
  await phone.goto(`${base}/inbox`)
  await phone.waitForSelector('text=保存した内容を表示しています')
  const kept = await phone.locator('ul.panel > li').allInnerTexts()
  process.stdout.write(JSON.stringify({ displayed, opened, shown, badges, screen, left, kept, faults: city.faults }))
} finally {
  await city.browser.close()
}
