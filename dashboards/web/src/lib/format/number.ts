const grouped = new Intl.NumberFormat('ja-JP')
const short = new Intl.NumberFormat('ja-JP', { notation: 'compact', maximumFractionDigits: 1 })

/** 1,200 */
export function numberText(n: number): string {
  return grouped.format(n)
}

/** 1.2万, for axes where space is short. */
export function shortNumberText(n: number): string {
  return short.format(n)
}

/** 1,200円 */
export function yenText(yen: number): string {
  return `${grouped.format(yen)}円`
}

/** +1,200円 or −1,200円 (a real minus sign), for ledger lines. */
export function signedYenText(yen: number): string {
  if (yen === 0) return '0円'
  return `${yen > 0 ? '+' : '−'}${grouped.format(Math.abs(yen))}円`
}

/** Reads what a person typed as an amount: full-width digits, commas, 円. Undefined when it is no whole amount. */
export function parseYen(text: string): number | undefined {
  const plain = text.normalize('NFKC').replace(/[,\s円¥]/g, '')
  if (!/^\d{1,9}$/.test(plain)) return undefined
  return Number(plain)
}

export function percentText(n: number | null | undefined): string {
  return n === null || n === undefined ? '—' : `${n.toFixed(1)}%`
}
