import { describe, expect, it } from 'vitest'
import type { Report } from '$lib/api/types'
import { barsOf, figuresOf, seriesOf } from './figures'

const report: Report = {
  report_id: 'statistics_simple', title: '統計（簡易版）',
  columns: [{ name: 'month', label: '月' }, { name: 'programme_code', label: '事業' }, { name: 'used_yen', label: '利用' }, { name: 'usage_rate', label: '率' }, { name: 'snapshot_id', label: '版' }],
  rows: [['2026-11', 'a', 300, null, 's'], ['2026-10', 'a', 100, 50.5, 's'], ['2026-11', 'b', 5, 10, 's']],
}

describe('figuresOf', () => {
  it('tells periods, measures and provenance apart', () => {
    const figures = figuresOf(report)
    expect(figures.period).toBe(0)
    expect(figures.measures.map((measure) => measure.label)).toEqual(['利用', '率'])
    expect(figures.columns.map((column) => column.name)).not.toContain('snapshot_id')
  })

  it('takes a masked figure for a figure nobody can draw', () => {
    const masked: Report = { ...report, columns: report.columns.slice(1, 3), rows: [['a', 12], ['b', '*']] }
    const figures = figuresOf(masked)
    expect(figures.measures.map((measure) => measure.label)).toEqual(['利用'])
    expect(barsOf(masked, figures, 1)).toEqual([{ text: 'a', value: 12 }])
  })

  it('sums a series over the other dimensions in time order', () => {
    expect(seriesOf(report, 0, 2)).toEqual({ periods: ['2026-10', '2026-11'], values: [100, 305] })
    expect(seriesOf(report, 0, 3).values).toEqual([50.5, 10])
  })

  it('names bars by the words of their row', () => {
    expect(barsOf(report, figuresOf(report), 2)[2]).toEqual({ text: '2026-11・b', value: 5 })
  })
})
