import { describe, expect, it } from 'vitest'
import { withQuery } from './client'

describe('withQuery', () => {
  it('leaves out what is empty and goes on where a path has a query', () => {
    expect(withQuery('/v1/messages', { q: '', type: undefined })).toBe('/v1/messages')
    expect(withQuery('/v1/messages', { q: 'G26 1', cursor: null })).toBe('/v1/messages?q=G26+1')
    expect(withQuery('/v1/messages?q=G26', { cursor: 'c-1' })).toBe('/v1/messages?q=G26&cursor=c-1')
  })
})
