// A phone that gets push loses its subscription while no page is open, as when its owner forbids notifications and allows
// them again: Chromium tells the app's service worker, which registers the new subscription.
// Input: one JSON object on the command line {base, guardian, service}; `service` is where the server's pushes can be seen.
// Output: what was seen, as JSON.
import { createServer } from 'node:http'
import { openProfile, signIn } from './city.mjs'

const { base, guardian, service } = JSON.parse(process.argv[2])

/** Google as far as a browser needs it to subscribe: an identity for the device, and a token for each subscription. */
async function google() {
  let n = 0
  // A protocol buffer: all is well (1), number of the device (7), its secret (8).
  const identity = Buffer.alloc(20)
  identity.set([(1 << 3) | 0, 1, (7 << 3) | 1], 0)
  identity.writeBigUInt64LE(1_234_567n, 3)
  identity[11] = (8 << 3) | 1
  identity.writeBigUInt64LE(7_654_321n, 12)
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const part of request) body += part
    if (request.url === '/checkin') response.end(identity)
    else response.end(`token=browser-${body.includes('X-subtype=wp') && !body.includes('delete=true') ? (n += 1) : 0}`)
  })
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  return { server, url: `http://127.0.0.1:${server.address().port}` }
}

// Run in pages and in the worker: the server is told of an address where this test can see what it sends.
const translate = (service) => {
  const send = self.fetch
  const told = Promise.withResolvers()
  self.told = told.promise
  self.fetch = async (address, options) => {
    if (options?.method !== 'PUT') return send(address, options)
    const body = options.body.replace(/https:\/\/[^"]*\/fcm\/send\//, `${service}/push/`)
    const answer = await send(address, { ...options, body })
    told.resolve({ address, status: answer.status })
    return answer
  }
}

const { server, url } = await google()
const phone = await openProfile([390, 844], [`--gcm-checkin-url=${url}/checkin`, `--gcm-registration-url=${url}/register`, `--gcm-mcs-endpoint=${url}`])
try {
  // What the owner does in the browser's settings; permissions that DevTools gives or takes are told to nobody.
  const settings = await phone.context.newPage()
  await settings.goto('chrome://settings/content')
  const notifications = (setting) => settings.evaluate((all) => chrome.send('setOriginPermissions', all), [base, 'notifications', setting])
  await notifications('allow')

  const page = await phone.context.newPage()
  page.on('pageerror', (error) => phone.faults.push(`${page.url()}: ${error.message}`))
  await page.addInitScript(translate, service)
  await signIn(page, base, 'guardian', guardian)
  await page.goto(`${base}/settings`)
  await page.click('button:has-text("この端末で受け取る")')
  await page.waitForSelector('text=この端末で受け取っています')
  const registered = await page.evaluate(() => self.told)
  await page.waitForFunction(() => navigator.serviceWorker.controller !== null)
  const worker = phone.context.serviceWorkers().find((one) => one.url().endsWith('/sw.js'))
  await page.close()

  await worker.evaluate(translate, service)
  await worker.evaluate(() => {
    self.heard = []
    self.addEventListener('pushsubscriptionchange', (event) => self.heard.push(event.isTrusted))
  })
  const pages = await worker.evaluate(async () => (await self.clients.matchAll({ includeUncontrolled: true })).length)
  await notifications('block')
  await notifications('allow')
  const renewed = await worker.evaluate(() => self.told)
  const heard = await worker.evaluate(() => self.heard)
  process.stdout.write(JSON.stringify({ registered, renewed, heard, pages, faults: phone.faults }))
} finally {
  await phone.close()
  server.close()
}
