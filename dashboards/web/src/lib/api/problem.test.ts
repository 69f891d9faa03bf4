import { describe, expect, it } from 'vitest'
import { ApiError } from './problem'

describe('ApiError', () => {
  it('shows the text and the number of a refusal and of a fault', () => {
    const text = (status: number) => new ApiError({ status, detail: '文面', request_id: '0190-abcd' }).text
    expect([403, 500, 503].map(text)).toEqual(Array(3).fill('文面（番号 0190-abcd）'))
    expect([401, 404, 409, 422].map(text)).toEqual(Array(4).fill('文面'))
  })

  it('has a text for answers that do not come from the server itself', () => {
    expect(new ApiError({ status: 502 }).text).toBe('ただいま一時的にご利用いただけません。しばらくお待ちください。')
    expect(new ApiError({ status: 500 }).text).toContain('処理中に問題が発生しました')
    expect(new ApiError({ status: 0 }).isNetwork).toBe(true)
  })
})
