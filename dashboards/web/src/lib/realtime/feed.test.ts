import { describe, expect, it } from 'vitest'
import { Feed, mergeByKey } from './feed'

const first = { epoch: 'e1', offset: 10, wasRecovering: false, recovered: false }

describe('Feed', () => {
  it('shows a publication once', () => {
    const feed = new Feed()
    expect(feed.subscribed('c', first)).toBe('refetch')
    expect(feed.accept('c', 10)).toBe(false)
    expect(feed.accept('c', 11)).toBe(true)
    expect(feed.accept('c', 11)).toBe(false)
    expect(feed.accept('c', 12)).toBe(true)
  })

  it('continues after a recovered reconnect and takes the recovered publications', () => {
    const feed = new Feed()
    feed.subscribed('c', first)
    feed.accept('c', 11)
    expect(feed.subscribed('c', { epoch: 'e1', offset: 14, wasRecovering: true, recovered: true })).toBe('continues')
    expect([11, 12, 13, 14].map((offset) => feed.accept('c', offset))).toEqual([false, true, true, true])
  })

  it('asks for a refetch when recovery was not complete or the epoch changed', () => {
    const feed = new Feed()
    feed.subscribed('c', first)
    expect(feed.subscribed('c', { epoch: 'e1', offset: 400, wasRecovering: true, recovered: false })).toBe('refetch')
    expect(feed.accept('c', 400)).toBe(false)
    expect(feed.subscribed('c', { epoch: 'e2', offset: 3, wasRecovering: true, recovered: true })).toBe('refetch')
    expect(feed.accept('c', 4)).toBe(true)
  })

  it('keeps channels apart and lets history-less channels through', () => {
    const feed = new Feed()
    feed.subscribed('a', first)
    expect(feed.accept('b', 1)).toBe(true)
    expect(feed.accept('a', undefined)).toBe(true)
    expect(feed.accept('a', undefined)).toBe(true)
  })
})

describe('mergeByKey', () => {
  interface Row { id: string; seq: number }
  const newer = (a: Row, b: Row) => a.seq >= b.seq
  const rows: Row[] = [{ id: 'a', seq: 2 }, { id: 'b', seq: 5 }]

  it('replaces in place, adds in front, and never goes back', () => {
    expect(mergeByKey(rows, { id: 'b', seq: 6 }, (r) => r.id, newer)).toEqual([{ id: 'a', seq: 2 }, { id: 'b', seq: 6 }])
    expect(mergeByKey(rows, { id: 'c', seq: 1 }, (r) => r.id, newer)[0]).toEqual({ id: 'c', seq: 1 })
    expect(mergeByKey(rows, { id: 'b', seq: 4 }, (r) => r.id, newer)).toEqual(rows)
  })
})
