import { describe, expect, it } from 'vitest'
import { addDays, addMonths, ageText, dayText, daysBetween, fromLocalInput, jstDay, listMomentText, momentText, toLocalInput } from './date'
import { parseYen, percentText, signedYenText, yenText } from './number'
import { qrToken } from './token'

describe('dates', () => {
  it('turns an instant into the day of Tokyo, also across midnight', () => {
    expect(jstDay(new Date('2026-11-20T14:59:59Z'))).toBe('2026-11-20')
    expect(jstDay(new Date('2026-11-20T15:00:00Z'))).toBe('2026-11-21')
  })

  it('names the weekday', () => {
    expect(dayText('2026-11-21')).toBe('2026年11月21日（土）')
    expect(dayText('2028-02-29')).toBe('2028年2月29日（火）')
    expect(momentText('2026-11-21T01:02:03.000004Z')).toBe('2026年11月21日（土）10:02')
  })

  it('shortens times in lists', () => {
    const now = new Date('2026-11-21T03:00:00Z')
    expect(listMomentText('2026-11-21T01:02:00Z', now)).toBe('今日 10:02')
    expect(listMomentText('2026-11-20T01:02:00Z', now)).toBe('昨日 10:02')
    expect(listMomentText('2026-11-03T01:02:00Z', now)).toBe('11月3日（火） 10:02')
    expect(listMomentText('2025-11-03T01:02:00Z', now)).toBe('2025年11月3日（月） 10:02')
  })

  it('counts ages, days and months', () => {
    const now = new Date('2026-11-21T03:00:00Z')
    expect(ageText('2026-11-21T02:55:30Z', now)).toBe('4分')
    expect(ageText('2026-11-20T03:00:00Z', now)).toBe('24時間')
    expect(ageText('2026-11-18T03:00:00Z', now)).toBe('3日')
    expect(addDays('2026-12-31', 1)).toBe('2027-01-01')
    expect(addMonths('2026-01', -1)).toBe('2025-12')
    expect(daysBetween('2026-11-21', '2026-12-01')).toBe(10)
  })

  it('round-trips the date-time control in Tokyo time', () => {
    expect(fromLocalInput('2026-11-21T10:02')).toBe('2026-11-21T01:02:00.000Z')
    expect(toLocalInput('2026-11-21T01:02:00Z')).toBe('2026-11-21T10:02')
  })
})

describe('numbers', () => {
  it('sets money', () => {
    expect(yenText(8800)).toBe('8,800円')
    expect(signedYenText(-1200)).toBe('−1,200円')
    expect(signedYenText(1200)).toBe('+1,200円')
    expect(percentText(null)).toBe('—')
  })

  it('reads typed amounts and refuses what is none', () => {
    expect(parseYen('１，２００円')).toBe(1200)
    expect(parseYen('1,200')).toBe(1200)
    expect(parseYen('12.5')).toBeUndefined()
    expect(parseYen('-5')).toBeUndefined()
    expect(parseYen('')).toBeUndefined()
  })
})

describe('QR token', () => {
  it('reads tokens, addresses and typed groups alike', () => {
    expect(qrToken('1ABC-D0FG HJKM')).toBe('1ABCD0FGHJKM')
    expect(qrToken('https://todoke.example/q/1ABCD?x=1')).toBe('1ABCD')
    expect(qrToken('１ａｂｃｏＩ')).toBe('1ABC01')
  })
})
