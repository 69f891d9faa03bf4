import type { Application } from '$lib/api/types'
import { correctionText, rejectionText } from './word'

/** The reason of a rejection or revocation as one text, whether the server sent a code, a text or both. */
export function reasonText(reason: Application['reason']): string {
  if (!reason) return ''
  if (typeof reason === 'string') return worded(reason)
  return [worded(reason.reason_code ?? ''), reason.text ?? ''].filter(Boolean).join('（') + (reason.reason_code && reason.text ? '）' : '')
}

function worded(code: string): string {
  const rejection = rejectionText(code)
  return rejection === code ? correctionText(code) : rejection
}
