import type { Report } from '$lib/api/types'

export type Cell = Report['rows'][number][number]

/** Ends of every aggregate; shown once below the table instead of in every row. */
const PROVENANCE = new Set(['period_from', 'period_to', 'snapshot_id', 'created_at'])
const PERIODS = new Set(['day', 'week', 'month', 'jst_date', 'date'])

export interface Figures {
  columns: { name: string; label: string; at: number; numeric: boolean }[]
  /** The column that runs through time, if there is one. */
  period: number | undefined
  measures: { at: number; label: string }[]
}

/** Stands for a figure of too few persons. */
const MASKED = '*'

const isNumber = (cell: Cell | undefined): cell is number => typeof cell === 'number'

/** Tells periods, figures and words of a report apart, for table and chart. */
export function figuresOf(report: Report): Figures {
  const columns = report.columns
    .map((column, at) => ({ ...column, at, numeric: report.rows.some((row) => isNumber(row[at])) && report.rows.every((row) => row[at] === null || row[at] === MASKED || isNumber(row[at])) }))
    .filter((column) => !PROVENANCE.has(column.name))
  const period = columns.find((column) => PERIODS.has(column.name) && report.rows.every((row) => /^\d{4}-\d{2}/.test(String(row[column.at]))))?.at
  const measures = columns.filter((column) => column.numeric && column.at !== period && !column.name.endsWith('_no')).map(({ at, label }) => ({ at, label }))
  return { columns, period, measures }
}

/** One value per period, summed over whatever else the rows are split by. */
export function seriesOf(report: Report, period: number, measure: number): { periods: string[]; values: (number | null)[] } {
  const sums = new Map<string, number | null>()
  for (const row of report.rows) {
    const at = String(row[period])
    const value = row[measure]
    const known = sums.get(at) ?? null
    sums.set(at, isNumber(value) ? (known ?? 0) + value : known)
  }
  const sorted = [...sums].toSorted(([a], [b]) => a.localeCompare(b))
  return { periods: sorted.map(([at]) => at), values: sorted.map(([, value]) => value) }
}

/** One bar per row, named by its words. */
export function barsOf(report: Report, figures: Figures, measure: number): { text: string; value: number }[] {
  const words = figures.columns.filter((column) => !column.numeric)
  return report.rows
    .filter((row) => isNumber(row[measure]))
    .map((row, i) => ({ text: words.map((column) => String(row[column.at] ?? '')).filter(Boolean).join('・') || `${i + 1}`, value: row[measure] as number }))
}
