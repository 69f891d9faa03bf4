// What the tracker keeps while the phone is out of reach is sent when it is back, and the last screen when the page goes.
// Then the session ends while something waits, and somebody else signs in on the same phone: it does not become theirs.
// Input: one JSON object on the command line {base, guardian, other, analyst}, of the analyst a token. Output, as JSON: how
// often each of the two screens is in the lake, and of which sessions the other person's page sent events.
import { connected, openBrowser, openWindow, signIn } from './city.mjs'

const { base, guardian, other, analyst } = JSON.parse(process.argv[2])
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
  // The browser stays open until it is there: closed before, it may take the beacon with it. A beacon has no answer, and a
  // browser may lose one: what it carried is kept, and goes out with the next start of the page.
  const sql = `SELECT screen_id, COUNT(*) FROM events_app WHERE event_type = 'app.screen_viewed'
    AND session_id = '${session}' AND screen_id IN ('GD19', 'GD15') GROUP BY screen_id ORDER BY screen_id`
  const begun = Date.now()
  let views = []
  let isBack = false
  while (views.length < 2 && Date.now() < begun + 60_000) {
    if (!isBack && Date.now() > begun + 10_000) {
      await phone.goto(base)
      isBack = true
    }
    const answer = await fetch(`${base}/v1/sql`, {
      method: 'POST',
      headers: { authorization: `Bearer ${analyst}`, 'content-type': 'application/json' },
      body: JSON.stringify({ sql })
    })
    views = (await answer.json()).rows
    await new Promise((again) => setTimeout(again, 200))
  }
  await phone.goto(base)
  await connected(phone)
  await phone.context().setOffline(true)
  await open('/surveys', 'アンケート')
  await open('/inbox', '受信箱')
  await phone.context().clearCookies()
  await phone.context().setOffline(false)
  // Events are sent in the order of their time: what waited of the first person would be in the first batch.
  const first = phone.waitForResponse((answer) => answer.url() === `${base}/v1/usage` && answer.ok())
  await signIn(phone, base, 'guardian', other)
  const { events } = JSON.parse((await first).request().postData())
  const sessions = { first: session, ofOther: events.map((event) => event.session_id) }
  process.stdout.write(JSON.stringify({ views, sessions, faults: city.faults }))
} finally {
  await city.browser.close()
}
