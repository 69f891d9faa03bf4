// All days and times people see are Asia/Tokyo, wherever the device is.
const ZONE = 'Asia/Tokyo'
const WEEKDAYS = ['日', '月', '火', '水', '木', '金', '土'] as const

const partsFormat = new Intl.DateTimeFormat('en-CA', {
  timeZone: ZONE, year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23',
})

interface Parts {
  year: number
  month: number
  day: number
  hour: number
  minute: number
  second: number
}

function partsOf(at: Date): Parts {
  const found: Record<string, number> = {}
  for (const part of partsFormat.formatToParts(at)) found[part.type] = Number(part.value)
  return found as unknown as Parts
}

const two = (n: number) => String(n).padStart(2, '0')

/** The JST calendar day of an instant, YYYY-MM-DD. */
export function jstDay(at: Date): string {
  const p = partsOf(at)
  return `${p.year}-${two(p.month)}-${two(p.day)}`
}

/** 2026年11月21日（土） from YYYY-MM-DD; calendar days carry no zone. */
export function dayText(day: string): string {
  const [y, m, d] = day.slice(0, 10).split('-').map(Number)
  if (!y || !m || !d) return day
  const weekday = WEEKDAYS[new Date(Date.UTC(y, m - 1, d)).getUTCDay()]
  return `${y}年${m}月${d}日（${weekday}）`
}

/** 2026年11月 from YYYY-MM or YYYY-MM-DD. */
export function monthText(month: string): string {
  const [y, m] = month.split('-').map(Number)
  return y && m ? `${y}年${m}月` : month
}

export function timeText(at: string | Date): string {
  const p = partsOf(new Date(at))
  return `${two(p.hour)}:${two(p.minute)}`
}

/** 2026年11月21日（土）10:02 */
export function momentText(at: string | Date): string {
  const date = new Date(at)
  return `${dayText(jstDay(date))}${timeText(date)}`
}

/** Short form for lists: 10:02 today, 昨日 10:02, 11月3日（月）10:02, with the year when it is another one. */
export function listMomentText(at: string, now: Date = new Date()): string {
  const date = new Date(at)
  const day = jstDay(date)
  const today = jstDay(now)
  if (day === today) return `今日 ${timeText(date)}`
  if (day === jstDay(new Date(now.getTime() - 86_400_000))) return `昨日 ${timeText(date)}`
  const text = day.slice(0, 4) === today.slice(0, 4) ? dayText(day).replace(/^\d+年/, '') : dayText(day)
  return `${text} ${timeText(date)}`
}

/** Age of a queue item: 5分, 3時間, 2日. */
export function ageText(since: string, now: Date): string {
  const minutes = Math.max(0, Math.floor((now.getTime() - new Date(since).getTime()) / 60_000))
  if (minutes < 60) return `${minutes}分`
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)}時間`
  return `${Math.floor(minutes / 1440)}日`
}

export function addDays(day: string, n: number): string {
  const [y, m, d] = day.split('-').map(Number)
  return new Date(Date.UTC(y ?? 0, (m ?? 1) - 1, (d ?? 1) + n)).toISOString().slice(0, 10)
}

export function addMonths(month: string, n: number): string {
  const [y, m] = month.split('-').map(Number)
  return new Date(Date.UTC(y ?? 0, (m ?? 1) - 1 + n, 1)).toISOString().slice(0, 7)
}

/** Whole days from one calendar day to another. */
export function daysBetween(from: string, to: string): number {
  return Math.round((Date.parse(`${to}T00:00:00Z`) - Date.parse(`${from}T00:00:00Z`)) / 86_400_000)
}

/** Value of `<input type="datetime-local">` (JST) for an instant, and back. */
export function toLocalInput(at: string | Date): string {
  const p = partsOf(new Date(at))
  return `${p.year}-${two(p.month)}-${two(p.day)}T${two(p.hour)}:${two(p.minute)}`
}

export function fromLocalInput(value: string): string {
  return new Date(`${value}:00+09:00`).toISOString()
}
