import { describe, expect, it } from 'vitest'
import { matchRoute, ownPath, type Route } from './match'

const load = () => Promise.reject(new Error('not loaded in this test'))
const routes: Route[] = [
  { pattern: '/', screen: 'GD03', title: 'ホーム', load },
  { pattern: '/coupons', screen: 'GD04', title: 'クーポン', load },
  { pattern: '/coupons/:id', screen: 'GD16', title: '履歴', load },
]

describe('matchRoute', () => {
  it('finds plain and parameterised paths', () => {
    expect(matchRoute(routes, '/')?.route.screen).toBe('GD03')
    expect(matchRoute(routes, '/coupons/')?.route.screen).toBe('GD04')
    expect(matchRoute(routes, '/coupons/a%20b')?.params).toEqual({ id: 'a b' })
  })

  it('answers nothing for unknown or broken paths', () => {
    expect(matchRoute(routes, '/coupons/1/2')).toBeUndefined()
    expect(matchRoute(routes, '/coupons/%E0%A4%A')).toBeUndefined()
  })
})

describe('ownPath', () => {
  it('keeps own paths and refuses other origins', () => {
    expect(ownPath('/coupons/1', '/')).toBe('/coupons/1')
    expect(ownPath('//evil.example', '/')).toBe('/')
    expect(ownPath('/\\evil.example', '/')).toBe('/')
    expect(ownPath('https://evil.example', '/')).toBe('/')
    expect(ownPath(null, '/inbox')).toBe('/inbox')
  })
})
