import { expect, test } from 'vitest'
import { isNews, wordOf } from './boardEvent'

const at = '2026-11-21T10:00:00+09:00'

test('what happened is told in words, never by a code', () => {
  expect(wordOf({ type: 'broadcast.released', at })).toBe('配信が承認されました')
  expect(wordOf({ type: 'broadcast.other', at })).toBe('配信の状態が変わりました')
  expect(wordOf({ type: 'unheard.of', at })).toBe('記録が更新されました')
  expect(wordOf({ type: 'survey.results_ready', at, title: '満足度調査' })).toBe('満足度調査')
})

test('moving counters are no news', () => {
  expect([{ type: 'broadcast.progress', at }, { type: 'broadcast.started', at }].filter(isNews)).toHaveLength(1)
})
