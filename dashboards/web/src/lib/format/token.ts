/**
 * The token in what a camera read or a person typed: a bare token, or an address that ends with one.
 * Crockford base 32 has no I, L, O, U: typed look-alikes are read as the digit they stand for.
 */
export function qrToken(input: string): string {
  const text = input.normalize('NFKC').trim()
  const last = /^https?:\/\//i.test(text) ? lastSegment(text) : text
  return last
    .replace(/[\s\-ー−‐]/g, '')
    .toUpperCase()
    .replace(/O/g, '0')
    .replace(/[IL]/g, '1')
}

function lastSegment(address: string): string {
  const segment = (address.split(/[?#]/)[0] ?? '').split('/').filter(Boolean).pop() ?? ''
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}
