import { describe, expect, it } from 'vitest'
import { Outbox, type EventStore, type SendOutcome, type UsageEvent } from './outbox'
import { uuid7 } from './uuid7'

function memoryStore(): EventStore & { rows: Map<string, UsageEvent> } {
  const rows = new Map<string, UsageEvent>()
  return {
    rows,
    put: async (event) => void rows.set(event.event_id, event),
    oldest: async (n) => [...rows.values()].slice(0, n),
    remove: async (ids) => ids.forEach((id) => rows.delete(id)),
    clear: async () => rows.clear(),
  }
}

const event = (n: number): UsageEvent => ({ event_id: `e${n}`, event_type: 'app.screen_viewed', occurred_at: '2026-11-21T01:00:00Z' })

describe('Outbox', () => {
  it('keeps events until the server has taken them', async () => {
    const store = memoryStore()
    const sent: string[][] = []
    const answers: SendOutcome[] = ['retry', 'taken']
    const planned: (() => void)[] = []
    const outbox = new Outbox(store, async (events) => {
      sent.push(events.map((e) => e.event_id))
      return answers.shift() ?? 'taken'
    }, (run) => planned.push(run))
    await outbox.add(event(1))
    await outbox.add(event(2))
    await outbox.flush()
    expect(store.rows.size).toBe(2)
    expect(planned).toHaveLength(1)
    await outbox.flush()
    expect(sent).toEqual([['e1', 'e2'], ['e1', 'e2']])
    expect(store.rows.size).toBe(0)
  })

  it('waits longer after each failure, up to a limit, and plans one try at a time', async () => {
    const waits: number[] = []
    const runs: (() => void)[] = []
    const outbox = new Outbox(memoryStore(), async () => 'retry', (run, ms) => {
      waits.push(ms)
      runs.push(run)
    })
    await outbox.add(event(1))
    await outbox.flush()
    await outbox.flush()
    expect(waits).toEqual([2_000])
    for (let i = 0; i < 9; i++) {
      runs.pop()?.()
      await new Promise((done) => setTimeout(done))
    }
    expect(waits.slice(1, 3)).toEqual([8_000, 16_000])
    expect(Math.max(...waits)).toBe(300_000)
  })

  it('drops a batch that the server refuses for good', async () => {
    const store = memoryStore()
    const outbox = new Outbox(store, async () => 'refused')
    await outbox.add(event(1))
    await outbox.flush()
    expect(store.rows.size).toBe(0)
  })

  it('sends in batches and offers a beacon that fits', async () => {
    const sizes: number[] = []
    const outbox = new Outbox(memoryStore(), async (events) => {
      sizes.push(events.length)
      return 'taken'
    })
    for (let n = 0; n < 450; n++) await outbox.add(event(n))
    expect(new TextEncoder().encode(JSON.stringify(outbox.beaconBatch())).length).toBeLessThan(64_000)
    await outbox.flush()
    expect(sizes).toEqual([200, 200, 50])
    expect(outbox.beaconBatch()).toEqual([])
  })

  it('works without storage', async () => {
    const broken: EventStore = {
      put: () => Promise.reject(new Error('no storage')),
      oldest: () => Promise.reject(new Error('no storage')),
      remove: () => Promise.reject(new Error('no storage')),
      clear: () => Promise.reject(new Error('no storage')),
    }
    let sent = 0
    const outbox = new Outbox(broken, async (events) => {
      sent += events.length
      return 'taken'
    })
    await outbox.add(event(1))
    await outbox.flush()
    expect(sent).toBe(1)
  })
})

describe('uuid7', () => {
  it('has version, variant and time order', () => {
    const a = uuid7(1_795_000_000_000)
    expect(a).toMatch(/^[\da-f]{8}-[\da-f]{4}-7[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/)
    expect(a < uuid7(1_795_000_000_001)).toBe(true)
    expect(Number.parseInt(a.replaceAll('-', '').slice(0, 12), 16)).toBe(1_795_000_000_000)
  })
})
