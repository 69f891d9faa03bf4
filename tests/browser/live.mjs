// The official client, steered by lines of JSON on standard input; everything it sees goes to standard output.
// node live.mjs BASE_URL SESSION_TOKEN
import { createInterface } from 'node:readline'
import { Centrifuge } from 'centrifuge'
import WebSocket from 'ws'

const [base, session] = process.argv.slice(2)
const counts = new Map()

function tell(event, detail) {
  const count = (counts.get(event) ?? 0) + 1
  counts.set(event, count)
  process.stdout.write(`${JSON.stringify({ event, count, ...detail })}\n`)
}

async function getToken() {
  const answer = await fetch(`${base}/v1/realtime/token`, { method: 'POST', headers: { authorization: `Bearer ${session}` } })
  if (!answer.ok) throw new Error(`no token: ${answer.status}`)
  return (await answer.json()).token
}

// Kept so that a cut can drop the line under the client instead of saying goodbye.
let line
class Line extends WebSocket {
  constructor(...args) {
    super(...args)
    line = this
  }
}

const client = new Centrifuge(`${base.replace('http', 'ws')}/connection/websocket`, { websocket: Line, getToken })
client.on('connecting', (context) => tell('connecting', { code: context.code }))
client.on('connected', (context) => tell('connected', { client: context.client }))
client.on('disconnected', (context) => tell('disconnected', { code: context.code }))
client.on('subscribed', (context) =>
  tell('subscribed', { channel: context.channel, recovered: context.recovered, was_recovering: context.wasRecovering }))
client.on('publication', (context) => tell('publication', { channel: context.channel, offset: context.offset ?? 0, data: context.data }))
client.on('error', (context) => tell('error', { message: String(context.error?.message ?? context.type) }))

async function rpc({ id, method, data }) {
  try {
    const answer = await client.rpc(method, data)
    tell('answer', { id, data: answer.data ?? null })
  } catch (error) {
    tell('answer', { id, error: { code: error.code, message: error.message } })
  }
}

const orders = {
  cut() {
    line.terminate()
    client.disconnect()
  },
  resume: () => client.connect(),
  rpc,
}

createInterface({ input: process.stdin })
  .on('line', (text) => {
    const order = JSON.parse(text)
    orders[order.order](order)
  })
  .on('close', () => process.exit(0))
client.connect()
