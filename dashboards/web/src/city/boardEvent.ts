/** What the board says of a publication. */
export interface BoardEvent {
  type: string
  subject?: { kind: string; id: string; no?: string | null }
  state?: string | null
  at: string
  title?: string
}

// The first that fits: single types before their group.
const WORDS: [string, string][] = [
  ['broadcast.submitted', '配信が承認を待っています'],
  ['broadcast.released', '配信が承認されました'],
  ['broadcast.rejected', '配信が差し戻されました'],
  ['broadcast.started', '配信を開始しました'],
  ['broadcast.completed', '配信が完了しました'],
  ['broadcast.stopped', '配信を中止しました'],
  ['broadcast.', '配信の状態が変わりました'],
  ['report.', '統計資料が提示されました'],
  ['survey.', 'アンケートの結果がまとまりました'],
  ['incident.', 'インシデントの報告があります'],
  ['import.', 'データが取り込まれました'],
  ['application.', '申請の状態が変わりました'],
  ['coupon.', 'クーポンの記録が変わりました'],
  ['claim.', '請求の状態が変わりました'],
  ['city_request.', '市からの依頼の状態が変わりました'],
]

/** Moving counters are no news: the page of the broadcast shows them. */
export const isNews = (event: BoardEvent): boolean => event.type !== 'broadcast.progress'

/** In words; a type without words of its own is never shown by its code. */
export const wordOf = (event: BoardEvent): string => event.title ?? WORDS.find(([start]) => event.type.startsWith(start))?.[1] ?? '記録が更新されました'
