import { describe, expect, it } from 'vitest'
import { AGE_MS_MAX, Outbox, WAITING_MAX, type EventStore, type SendOutcome, type WaitingEvent } from './outbox'
import { uuid7 } from './uuid7'

function memoryStore(): EventStore & { rows: Map<string, WaitingEvent> } {
  const rows = new Map<string, WaitingEvent>()
  return {
    rows,
    put: async (event) => void rows.set(event.event_id, event),
    oldest: async (n) => [...rows.values()].slice(0, n),
    count: async () => rows.size,
    remove: async (ids) => ids.forEach((id) => rows.delete(id)),
    clear: async () => rows.clear(),
  }
}

const NOW = Date.parse('2026-11-21T02:00:00Z')

const event = (n: number, atMs = NOW - 3_600_000, owner: string | null = 'a'): WaitingEvent => ({
  event_id: `e${n}`, event_type: 'app.screen_viewed', occurred_at: new Date(atMs).toISOString(), owner,
})

const signedIn = () => 'a'

/** Time stands still, and what is planned runs when the test says so. */
function handClock() {
  const planned: { run: () => void; ms: number }[] = []
  const settled = () => new Promise((done) => setTimeout(done))
  return {
    planned,
    now: () => NOW,
    schedule: (run: () => void, ms: number) => void planned.push({ run, ms }),
    waits: () => planned.map(({ ms }) => ms),
    runLatest: async () => {
      planned.at(-1)?.run()
      await settled()
    },
  }
}

describe('Outbox', () => {
  it('keeps events until the server has taken them', async () => {
    const store = memoryStore()
    const sent: string[][] = []
    const answers: SendOutcome[] = ['retry', 'taken']
    const clock = handClock()
    const outbox = new Outbox(store, async (events) => {
      sent.push(events.map((e) => e.event_id))
      return answers.shift() ?? 'taken'
    }, signedIn, clock)
    await outbox.add(event(1))
    await outbox.add(event(2))
    await outbox.flush()
    expect(store.rows.size).toBe(2)
    expect(clock.planned).toHaveLength(1)
    await clock.runLatest()
    expect(sent).toEqual([['e1', 'e2'], ['e1', 'e2']])
    expect(store.rows.size).toBe(0)
  })

  it('waits longer after each failure, up to a limit, and a flush by the clock does not cut a wait short', async () => {
    let sent = 0
    const clock = handClock()
    const outbox = new Outbox(memoryStore(), async () => {
      sent += 1
      return 'retry'
    }, signedIn, clock)
    await outbox.add(event(1))
    await outbox.flush()
    await outbox.flush()
    expect(sent).toBe(1)
    for (let i = 0; i < 9; i++) await clock.runLatest()
    expect(clock.waits().slice(0, 4)).toEqual([2_000, 4_000, 8_000, 16_000])
    expect(Math.max(...clock.waits())).toBe(300_000)
  })

  it('tries at once when the connection is back, and the wait from before plans nothing more', async () => {
    const store = memoryStore()
    const answers: SendOutcome[] = ['retry', 'retry', 'taken']
    let sent = 0
    const clock = handClock()
    const outbox = new Outbox(store, async () => {
      sent += 1
      return answers.shift() ?? 'taken'
    }, signedIn, clock)
    await outbox.add(event(1))
    await outbox.flush()
    await outbox.flushNow()
    expect(sent).toBe(2)
    clock.planned[0]?.run()
    await new Promise((done) => setTimeout(done))
    expect(sent).toBe(2)
    await clock.runLatest()
    expect([sent, store.rows.size]).toEqual([3, 0])
  })

  it('leaves a server alone for as long as it asks, whatever happens, and keeps the events', async () => {
    const store = memoryStore()
    const answers: SendOutcome[] = [{ retryAfterMs: 60_000 }, 'taken']
    let sent = 0
    const clock = handClock()
    const outbox = new Outbox(store, async () => {
      sent += 1
      return answers.shift() ?? 'taken'
    }, signedIn, clock)
    await outbox.add(event(1))
    await outbox.flush()
    await outbox.flush()
    await outbox.flushNow()
    expect(outbox.beaconBatch()).toEqual([])
    expect([sent, store.rows.size, clock.waits()]).toEqual([1, 1, [60_000]])
    await clock.runLatest()
    expect([sent, store.rows.size]).toEqual([2, 0])
  })

  it('forgets what the server would refuse as too old, and nothing younger', async () => {
    const store = memoryStore()
    const sent: string[] = []
    const outbox = new Outbox(store, async (events) => {
      sent.push(...events.map((e) => e.event_id))
      return 'taken'
    }, signedIn, handClock())
    for (let n = 0; n < 450; n++) await store.put(event(n, NOW - AGE_MS_MAX - 1))
    await outbox.add(event(450, NOW - AGE_MS_MAX))
    await outbox.flush()
    expect(sent).toEqual(['e450'])
    expect(store.rows.size).toBe(0)
  })

  it('keeps a bounded number while nothing can be sent, and the oldest go first', async () => {
    const store = memoryStore()
    const outbox = new Outbox(store, async () => 'retry', signedIn, handClock())
    for (let n = 0; n < WAITING_MAX + 700; n++) await outbox.add(event(n))
    expect(store.rows.size).toBeLessThanOrEqual(WAITING_MAX + 200)
    await outbox.flush()
    expect(store.rows.size).toBe(WAITING_MAX)
    expect(store.rows.keys().next().value).toBe('e700')
    expect(store.rows.has(`e${WAITING_MAX + 699}`)).toBe(true)
  })

  it('drops a batch that the server refuses for good', async () => {
    const store = memoryStore()
    const outbox = new Outbox(store, async () => 'refused', signedIn, handClock())
    await outbox.add(event(1))
    await outbox.flush()
    expect(store.rows.size).toBe(0)
  })

  it('sends in batches and offers a beacon that fits', async () => {
    const sizes: number[] = []
    const outbox = new Outbox(memoryStore(), async (events) => {
      sizes.push(events.length)
      return 'taken'
    }, signedIn, handClock())
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
      count: () => Promise.reject(new Error('no storage')),
      remove: () => Promise.reject(new Error('no storage')),
      clear: () => Promise.reject(new Error('no storage')),
    }
    let sent = 0
    const outbox = new Outbox(broken, async (events) => {
      sent += events.length
      return 'taken'
    }, signedIn, handClock())
    await outbox.add(event(1))
    await outbox.flush()
    expect(sent).toBe(1)
  })
})

describe('an outbox of a shared device', () => {
  /** Who is signed in, what was sent as whom, and an outbox over both. */
  function shared(answers: SendOutcome[] = []) {
    const store = memoryStore()
    const clock = handClock()
    const sent: [string | undefined, string[]][] = []
    const device: { account: string | undefined } = { account: undefined }
    const outbox = new Outbox(store, async (events) => {
      sent.push([device.account, events.map((e) => e.event_id)])
      expect(events.filter((e) => 'owner' in e)).toEqual([])
      return answers.shift() ?? 'taken'
    }, () => device.account, clock)
    return { store, clock, sent, device, outbox }
  }

  it('sends nothing of one person as another, also not by beacon', async () => {
    const { store, sent, device, outbox } = shared(['retry'])
    device.account = 'a'
    await outbox.add(event(1))
    await outbox.flush()
    device.account = undefined
    await outbox.flushNow()
    expect([outbox.beaconBatch(), store.rows.size]).toEqual([[], 1])
    device.account = 'b'
    await outbox.add(event(2, NOW, 'b'))
    expect(outbox.beaconBatch().map((e) => e.event_id)).toEqual(['e2'])
    await outbox.flushNow()
    expect(sent).toEqual([['a', ['e1']], ['b', ['e2']]])
    expect(store.rows.size).toBe(0)
  })

  it('keeps them for the person they are of, who may come back', async () => {
    const { sent, device, outbox } = shared()
    await outbox.add(event(1))
    await outbox.flush()
    device.account = 'a'
    await outbox.flushNow()
    expect(sent).toEqual([['a', ['e1']]])
  })

  it('gives what happened before the sign-in to who signs in', async () => {
    const { sent, device, outbox } = shared()
    await outbox.add(event(1, NOW, null))
    await outbox.flush()
    device.account = 'b'
    await outbox.flushNow()
    expect(sent).toEqual([['b', ['e1']]])
  })

  it('is not held up by however many events of somebody else', async () => {
    const { store, sent, device, outbox } = shared()
    for (let n = 0; n < 450; n++) await store.put(event(n))
    await store.put(event(450, NOW, 'b'))
    device.account = 'b'
    await outbox.flush()
    expect([sent, store.rows.size]).toEqual([[['b', ['e450']]], 0])
  })

  it('forgets what was kept before owners were, as nobody knows whose it is', async () => {
    const { store, sent, device, outbox } = shared()
    const { owner: _, ...unowned } = event(1)
    await store.put(unowned as WaitingEvent)
    device.account = 'b'
    await outbox.flush()
    expect([sent, store.rows.size]).toEqual([[], 0])
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
