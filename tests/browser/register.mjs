// A parent registers on the phone: the language that the browser asks for is offered, another one is chosen, and the
// address is confirmed by the mail's own link.
// Input: one JSON object on the command line {base, email, password, language, words}; `words` are the language as the
// page names it. Output: what was seen, as JSON.
import { openBrowser, openWindow } from './city.mjs'

const { base, email, password, language, words } = JSON.parse(process.argv[2])
const city = await openBrowser()
try {
  const offered = {}
  for (const locale of ['en-US', language]) {
    const visitor = await openWindow(city, [390, 844], locale)
    await visitor.goto(`${base}/register`)
    offered[locale] = await visitor.locator('select[name=language]').inputValue()
    await visitor.context().close()
  }

  const phone = await openWindow(city, [390, 844])
  await phone.goto(`${base}/register`)
  offered['ja-JP'] = await phone.locator('select[name=language]').inputValue()
  await phone.selectOption('select[name=language]', { label: words })
  await phone.selectOption('select[name=municipality_code]', { index: 1 })
  const entered = {
    email, password, name: '試験 ことば', name_kana: 'シケン コトバ',
    'children[0].name': '試験 ゆず', 'children[0].name_kana': 'シケン ユズ', 'children[0].birth_date': '2026-02-03',
  }
  for (const [name, value] of Object.entries(entered)) await phone.fill(`input[name="${name}"]`, value)
  // The guardian's own comes before the child's.
  await phone.getByRole('radio', { name: '女' }).last().check()
  for (const consent of ['利用規約に同意する', 'プライバシーポリシーに同意する']) await phone.getByLabel(consent).check()
  const over = await phone.evaluate(() => document.documentElement.scrollWidth - innerWidth)
  await phone.click('button[type=submit]')
  await phone.waitForSelector('h1:has-text("確認メールをお送りしました")')

  const mails = await (await fetch(`${base}/demo/mail.json?to=${encodeURIComponent(email)}`)).json()
  await phone.goto(mails[0].links[0])
  await phone.waitForSelector('text=利用者登録が完了しました')
  process.stdout.write(JSON.stringify({ offered, over, faults: city.faults }))
} finally {
  await city.browser.close()
}
