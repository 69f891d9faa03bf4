import { describe, expect, it } from 'vitest'
import { knownLanguage } from './word'

describe('the language that somebody who registers is offered first', () => {
  it('is the browser’s first that messages can be had in, and Japanese where there is none', () => {
    expect(knownLanguage(['ja-JP', 'en'])).toBe('ja')
    expect(knownLanguage(['en-US', 'ja-Easy', 'ja'])).toBe('ja-easy')
    expect(knownLanguage(['pt-BR', 'en'])).toBe('ja')
    expect(knownLanguage(['toString'])).toBe('ja')
    expect(knownLanguage([])).toBe('ja')
  })
})
