import { expect, test } from 'vitest'
import { sourcesOf, sourcesText, type Key } from './key'

const key: Key = { api_key_id: '1', name: '電話窓口', role: 'support_desk', sources: [], issued_by: '', created_at: '2026-04-01T00:00:00Z', used_at: null, revoked_at: null }

test('each line that is not empty is a source', () => {
  expect(sourcesOf(' /call-centre \n\nhttps://desk.example/*\r\n')).toEqual(['/call-centre', 'https://desk.example/*'])
  expect(sourcesOf(' \n')).toEqual([])
})

test('a key that may name any source is told from one that may name none', () => {
  expect(sourcesText({ ...key, sources: ['/a', '/b'] })).toBe('/a\n/b')
  expect(sourcesText(key)).toContain('なし')
  expect(sourcesText({ ...key, sources: null })).toContain('すべて')
})
