/** Coming back sooner than this does not count. */
const AWAY_MS = 10_000

/** Calls `handler` when somebody looks at the page again after having been elsewhere. Returns the way to stop. */
export function onAttention(handler: () => void, now: () => number = Date.now): () => void {
  let leftAt: number | undefined
  const leave = () => (leftAt ??= now())
  const come = () => {
    const wasAway = leftAt !== undefined && now() - leftAt >= AWAY_MS
    leftAt = undefined
    if (wasAway) handler()
  }
  const change = () => (document.visibilityState === 'visible' ? come() : leave())
  window.addEventListener('blur', leave)
  window.addEventListener('focus', come)
  document.addEventListener('visibilitychange', change)
  return () => {
    window.removeEventListener('blur', leave)
    window.removeEventListener('focus', come)
    document.removeEventListener('visibilitychange', change)
  }
}
