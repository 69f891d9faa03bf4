/** One table of the lake, of all municipalities together. */
export interface LakeTable {
  table: string
  version: number
  files: number
  rows: number
  bytes: number
  partitions: number
  small_files: number
  new_files: number
  too_large_files: number
  staged_rows: number
}

/** What `GET /v1/lake/health` says. */
export interface LakeHealth {
  tables: LakeTable[]
  staged_rows: number
  oldest_waiting_ms: number | null
  log_backlog_bytes: number
  log_failure: string | null
  sink: { committed_rows: number; flushes: number; flushed_at: number | null; quarantined: number; failure: string | null }
  quarantine: Record<string, number>
  quarantine_full: boolean
}

/** Words for why an event could not be taken. */
export const REASONS: Record<string, string> = {
  not_json: 'JSONとして読めない',
  not_an_object: '1件の記録になっていない',
  id_invalid: 'IDの形か時刻が正しくない',
  id_reused: '同じIDで内容が違う',
  time_invalid: '日時が読めない',
  too_old: '古すぎる（35日より前）',
  in_future: '先の日時になっている',
  unknown_type: '知らない種類',
  type_not_allowed: '送れない種類',
  source_not_allowed: 'キーに認められていない送信元',
  unknown_field: '知らない項目がある',
  forbidden_field: '送れない項目がある',
  missing_field: '必要な項目がない',
  ill_typed: '値の形が合わない',
  too_long: '長すぎる',
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB']

/** 12.3 MiB */
export function bytesText(bytes: number): string {
  let n = bytes
  let unit = 0
  while (n >= 1024 && unit < UNITS.length - 1) {
    n /= 1024
    unit += 1
  }
  return `${unit === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${UNITS[unit]}`
}

/** What is wrong, in the words of the page; nothing when all is well. */
export function troubles(health: LakeHealth): string[] {
  const found: string[] = []
  if (health.log_failure) found.push('受付用のログに書き込めません。サーバーの再起動が必要です。')
  if (health.sink.failure) found.push('データ基盤への書き込みに失敗しています。記録はログに残り、自動で再試行されます。')
  if ((health.oldest_waiting_ms ?? 0) > 60_000) found.push('1分以上、ファイルに書き込まれていない記録があります。')
  if (health.quarantine_full) found.push('保留中の記録が上限に達しました。取り込めない記録を含む送信は受け付けていません。')
  for (const table of health.tables) {
    if (table.too_large_files > 0) {
      found.push(`events_${table.table}のファイル${table.too_large_files}個は大きすぎて整理できません。設定 lake.compact_mib_max を大きくしてください。`)
    }
  }
  return found
}

/** Tables that hold something, the largest first. */
export function filled(health: LakeHealth): LakeTable[] {
  return health.tables.filter((table) => table.rows + table.staged_rows > 0).sort((a, b) => b.rows - a.rows)
}
