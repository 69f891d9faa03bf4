import { ApiError, type Problem } from './problem'

type Query = Record<string, string | number | boolean | undefined | null>

interface CallOptions {
  query?: Query
  signal?: AbortSignal
  headers?: Record<string, string>
}

let csrfToken = ''
let onUnauthorised: () => void = () => undefined
let onFailure: (error: ApiError) => void = () => undefined

/** Remembers the token that mutating calls carry; empty after logout. */
export function setCsrfToken(token: string): void {
  csrfToken = token
}

/** Who wants to know of an ended session (401) and of failed calls (for the error rate). */
export function observeCalls(observer: { unauthorised: () => void; failed: (error: ApiError) => void }): void {
  onUnauthorised = observer.unauthorised
  onFailure = observer.failed
}

export function withQuery(path: string, query?: Query): string {
  const params = new URLSearchParams()
  for (const [key, value] of Object.entries(query ?? {})) {
    if (value !== undefined && value !== null && value !== '') params.set(key, String(value))
  }
  const text = params.toString()
  if (!text) return path
  return `${path}${path.includes('?') ? '&' : '?'}${text}`
}

async function send(method: string, path: string, body: BodyInit | undefined, options: CallOptions): Promise<Response> {
  const headers: Record<string, string> = { Accept: 'application/json', ...options.headers }
  if (method !== 'GET' && csrfToken) headers['X-CSRF-Token'] = csrfToken
  let response: Response
  try {
    const init: RequestInit = { method, headers, credentials: 'same-origin' }
    if (body !== undefined) init.body = body
    if (options.signal) init.signal = options.signal
    response = await fetch(withQuery(path, options.query), init)
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === 'AbortError') throw cause
    const error = new ApiError({ status: 0 })
    onFailure(error)
    throw error
  }
  if (response.ok) return response
  const error = new ApiError(await problemOf(response))
  if (response.status === 401) onUnauthorised()
  onFailure(error)
  throw error
}

async function problemOf(response: Response): Promise<Problem> {
  const type = response.headers.get('content-type') ?? ''
  if (!type.includes('json')) return { status: response.status }
  try {
    return { ...((await response.json()) as Problem), status: response.status }
  } catch {
    return { status: response.status }
  }
}

async function parsed<T>(response: Response): Promise<T> {
  if (response.status === 204) return undefined as T
  const text = await response.text()
  return (text ? JSON.parse(text) : undefined) as T
}

/** The version a form was filled from: the server refuses the save when somebody else saved meanwhile (409). */
export function ifMatch(version: string | undefined): CallOptions {
  return version ? { headers: { 'If-Match': `"${version}"` } } : {}
}

function withJson(options: CallOptions): CallOptions {
  return { ...options, headers: { 'Content-Type': 'application/json', ...options.headers } }
}

async function mutate<T>(method: string, path: string, body: unknown, options: CallOptions = {}): Promise<T> {
  const payload = body === undefined ? undefined : JSON.stringify(body)
  return parsed<T>(await send(method, path, payload, body === undefined ? options : withJson(options)))
}

export const api = {
  async get<T>(path: string, options: CallOptions = {}): Promise<T> {
    return parsed<T>(await send('GET', path, undefined, options))
  },
  post: <T>(path: string, body?: unknown, options?: CallOptions) => mutate<T>('POST', path, body, options),
  put: <T>(path: string, body?: unknown, options?: CallOptions) => mutate<T>('PUT', path, body, options),
  patch: <T>(path: string, body?: unknown, options?: CallOptions) => mutate<T>('PATCH', path, body, options),
  delete: <T>(path: string, options?: CallOptions) => mutate<T>('DELETE', path, undefined, options),
  /** Sends a file as it is; `headers` must name its type. */
  async upload<T>(path: string, file: Blob, options: CallOptions): Promise<T> {
    return parsed<T>(await send('POST', path, file, options))
  },
  async blob(path: string, options: CallOptions = {}): Promise<Blob> {
    return (await send('GET', path, undefined, { ...options, headers: { Accept: '*/*', ...options.headers } })).blob()
  },
  async postForBlob(path: string, body: unknown, accept: string, options: CallOptions = {}): Promise<Blob> {
    const response = await send('POST', path, JSON.stringify(body), withJson({ ...options, headers: { Accept: accept } }))
    return response.blob()
  },
}
