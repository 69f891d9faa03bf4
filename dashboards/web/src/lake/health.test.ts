import { describe, expect, it } from 'vitest'
import { bytesText, filled, troubles, type LakeHealth } from './health'

const well: LakeHealth = {
  tables: [
    { table: 'coupon', version: 2, files: 1, rows: 5, bytes: 900, partitions: 1, small_files: 1, new_files: 1, too_large_files: 0, staged_rows: 0 },
    { table: 'claim', version: 0, files: 0, rows: 0, bytes: 0, partitions: 0, small_files: 0, new_files: 0, too_large_files: 0, staged_rows: 0 },
    { table: 'app', version: 9, files: 3, rows: 900, bytes: 4096, partitions: 2, small_files: 3, new_files: 0, too_large_files: 0, staged_rows: 0 },
    { table: 'survey', version: 0, files: 0, rows: 0, bytes: 0, partitions: 0, small_files: 0, new_files: 0, too_large_files: 0, staged_rows: 2 },
  ],
  staged_rows: 0,
  oldest_waiting_ms: null,
  log_backlog_bytes: 0,
  log_failure: null,
  sink: { committed_rows: 905, flushes: 4, flushed_at: 1_795_000_000_000_000, quarantined: 0, failure: null },
  quarantine: {},
  quarantine_full: false,
}

describe('bytesText', () => {
  it('keeps three figures', () => {
    expect([0, 1023, 1024, 12_900_000, 500 * 1024 ** 3].map(bytesText)).toEqual(['0 B', '1023 B', '1.0 KiB', '12.3 MiB', '500 GiB'])
  })
})

describe('troubles', () => {
  it('is empty while all is well', () => {
    expect(troubles(well)).toEqual([])
    expect(troubles({ ...well, oldest_waiting_ms: 60_000 })).toEqual([])
  })

  it('names each', () => {
    const ill = { ...well, log_failure: 'x', oldest_waiting_ms: 60_001, sink: { ...well.sink, failure: 'y' } }
    expect(troubles(ill)).toHaveLength(3)
    expect(troubles({ ...well, quarantine_full: true })).toHaveLength(1)
    const large = { ...well, tables: well.tables.map((table) => ({ ...table, too_large_files: table.table === 'app' ? 2 : 0 })) }
    expect(troubles(large)).toEqual([expect.stringContaining('events_appのファイル2個')])
  })
})

describe('filled', () => {
  it('leaves out tables without a row and begins with the largest', () => {
    expect(filled(well).map((table) => table.table)).toEqual(['app', 'coupon', 'survey'])
  })
})
