// A family's phone: the code of a child that was invited and is not registered yet, and an application whose step has
// no message but shows without a reload.
// Input: one JSON object on the command line {base, family, child, applicationId, operator}; `operator` is a session's
// token. Output: what was seen, as JSON.
import { connected, openBrowser, openWindow, signIn } from './city.mjs'

const { base, family, child, applicationId, operator } = JSON.parse(process.argv[2])
const city = await openBrowser()
try {
  const phone = await openWindow(city, [390, 844])
  await signIn(phone, base, 'guardian', family)
  await phone.goto(`${base}/children`)
  const figure = phone.locator('figure', { has: phone.locator(`img[alt="${child}の児童用二次元コード"]`) })
  const code = await figure.locator('figcaption').innerText()

  await phone.goto(`${base}/applications/${applicationId}`)
  await connected(phone)
  await phone.waitForSelector('text=受付済')
  // Gone with the page, should it be loaded again.
  await phone.evaluate(() => { window.isTheSamePage = true })
  const complete = await fetch(`${base}/v1/applications/${applicationId}/complete`, {
    method: 'POST', headers: { authorization: `Bearer ${operator}`, 'content-type': 'application/json' }, body: '{}',
  })
  if (!complete.ok) throw new Error(`the documents were not taken as complete: ${complete.status} ${await complete.text()}`)
  await phone.waitForSelector('text=審査中')
  const isTheSamePage = await phone.evaluate(() => window.isTheSamePage === true)
  process.stdout.write(JSON.stringify({ code, isTheSamePage, faults: city.faults }))
} finally {
  await city.browser.close()
}
