import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { Outbox, type EventStore, type WaitingEvent } from './outbox'
import { readRetryAfter, sendUsage } from './send'

interface Answer {
  status: number
  headers?: Record<string, string>
}

let server: Server | undefined

afterEach(() => void server?.close())

async function textOf(request: IncomingMessage): Promise<string> {
  let text = ''
  for await (const piece of request) text += String(piece)
  return text
}

/** A server that gives these answers in turn; the last one again and again. `drop` cuts the connection instead. */
async function serve(answers: (Answer | 'drop')[]): Promise<{ url: string; bodies: string[] }> {
  const bodies: string[] = []
  const listening = createServer(async (request, response) => {
    bodies.push(await textOf(request))
    const answer = (answers.length > 1 ? answers.shift() : answers[0]) ?? 'drop'
    if (answer === 'drop') request.socket.destroy()
    else response.writeHead(answer.status, { Connection: 'close', ...answer.headers }).end()
  })
  server = listening
  await new Promise<void>((done) => listening.listen(0, '127.0.0.1', done))
  return { url: `http://127.0.0.1:${(listening.address() as AddressInfo).port}/v1/usage`, bodies }
}

async function outcomeOf(answer: Answer | 'drop') {
  const { url } = await serve([answer])
  const outcome = await sendUsage('{"events":[]}', url)
  await new Promise((done) => server?.close(done))
  return outcome
}

describe('sendUsage', () => {
  it('knows what is taken, what is refused for good and what is worth another try', async () => {
    expect(await outcomeOf({ status: 202 })).toBe('taken')
    for (const status of [400, 404, 413, 415]) expect(await outcomeOf({ status })).toBe('refused')
    for (const status of [401, 403, 408, 429, 500, 502, 503, 504]) expect(await outcomeOf({ status })).toBe('retry')
    expect(await outcomeOf('drop')).toBe('retry')
  })

  it('hears how long it is to wait', async () => {
    for (const status of [408, 429, 503]) {
      expect(await outcomeOf({ status, headers: { 'Retry-After': '7' } })).toEqual({ retryAfterMs: 7_000 })
    }
    expect(await outcomeOf({ status: 400, headers: { 'Retry-After': '7' } })).toBe('refused')
  })

  it('reads seconds and dates, and no nonsense', () => {
    const now = Date.parse('2026-11-21T02:00:00Z')
    expect(readRetryAfter('Sat, 21 Nov 2026 02:01:30 GMT', now)).toBe(90_000)
    expect(readRetryAfter('Sat, 21 Nov 2026 01:00:00 GMT', now)).toBeUndefined()
    expect(readRetryAfter('99999999999', now)).toBe(3_600_000)
    for (const value of [null, '', '0', 'soon', '-5']) expect(readRetryAfter(value, now)).toBeUndefined()
  })
})

describe('an outbox over HTTP', () => {
  it('loses no event of a batch that stalls, is too early, finds no room, and loses its connection', async () => {
    const { url, bodies } = await serve([
      { status: 408 },
      { status: 429, headers: { 'Retry-After': '30' } },
      { status: 503, headers: { 'Retry-After': '5' } },
      'drop',
      { status: 202 },
    ])
    const rows = new Map<string, WaitingEvent>()
    const store: EventStore = {
      put: async (event) => void rows.set(event.event_id, event),
      oldest: async (n) => [...rows.values()].slice(0, n),
      count: async () => rows.size,
      remove: async (ids) => ids.forEach((id) => rows.delete(id)),
      clear: async () => rows.clear(),
    }
    const waits: number[] = []
    let plan: (() => void) | undefined
    let planned: () => void = () => undefined
    const clock = {
      now: () => Date.now(),
      schedule: (run: () => void, ms: number) => {
        waits.push(ms)
        plan = run
        planned()
      },
    }
    const outbox = new Outbox(store, (events) => sendUsage(JSON.stringify({ events }), url), () => 'a', clock)
    for (let n = 0; n < 200; n++) {
      await outbox.add({ event_id: `e${n}`, event_type: 'app.screen_viewed', occurred_at: new Date().toISOString(), owner: 'a' })
    }
    const kept: number[] = []
    for (let attempt = 0; attempt < 4; attempt++) {
      const isPlanned = new Promise<void>((done) => (planned = done))
      if (attempt === 0) await outbox.flush()
      else plan?.()
      await isPlanned
      kept.push(rows.size)
    }
    plan?.()
    await vi.waitFor(() => expect(rows.size).toBe(0))
    expect(kept).toEqual([200, 200, 200, 200])
    expect(waits).toEqual([2_000, 30_000, 8_000, 16_000])
    expect(new Set(bodies).size).toBe(1)
    expect(bodies).toHaveLength(5)
  })
})
