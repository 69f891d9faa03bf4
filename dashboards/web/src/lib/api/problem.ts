/** RFC 9457 problem document as the hub sends it. */
export interface Problem {
  type?: string
  title?: string
  status: number
  detail?: string
  errors?: { field: string; detail: string }[]
  reason_code?: string
  request_id?: string
  import_id?: string
}

/** A call that did not succeed. `status` 0 means that the server was not reached. */
export class ApiError extends Error {
  readonly status: number
  readonly problem: Problem

  constructor(problem: Problem) {
    super(problem.detail ?? problem.title ?? `HTTP ${problem.status}`)
    this.name = 'ApiError'
    this.status = problem.status
    this.problem = problem
  }

  /** What to tell the person, in Japanese. The server's own text wins; a refusal or fault has a number to ask about. */
  get text(): string {
    const { detail, request_id } = this.problem
    const text = detail ?? textOfStatus(this.status)
    const hasNumber = request_id && (this.status === 403 || this.status >= 500)
    return hasNumber ? `${text}（番号 ${request_id}）` : text
  }

  get isNetwork(): boolean {
    return this.status === 0
  }
}

/** The texts of the error table of the screens for answers without a text of their own. */
export function textOfStatus(status: number): string {
  if (status === 0) return '通信できませんでした。電波の状態をご確認のうえ、もう一度お試しください。'
  if (status === 401) return 'ログインの有効時間が過ぎました。もう一度ログインしてください。'
  if (status === 403) return 'この画面を表示する権限がありません。'
  if (status === 404) return 'お探しの内容は見つかりませんでした。'
  if (status === 409) return 'ほかの操作と重なりました。最新の内容をご確認のうえ、もう一度お試しください。'
  if (status === 413) return 'ファイルが大きすぎます。8MBまでのファイルを選んでください。'
  if (status === 429) return '操作の回数が多いため、しばらくお待ちください。'
  if (status === 502 || status === 503) return 'ただいま一時的にご利用いただけません。しばらくお待ちください。'
  if (status >= 500) return '申し訳ありません。処理中に問題が発生しました。時間をおいてもう一度お試しください。'
  return '入力内容をご確認ください。'
}

export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error
  return new ApiError({ status: 0 })
}
