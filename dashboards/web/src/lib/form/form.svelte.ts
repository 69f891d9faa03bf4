import { tick } from 'svelte'
import { toApiError, type ApiError } from '$lib/api/problem'

export type FieldErrors = Record<string, string>

/** One form's submission: errors per field, the answer of the server, and no second click while one is under way. */
export class Form {
  busy = $state(false)
  errors = $state.raw<FieldErrors>({})
  problem = $state.raw<ApiError | undefined>(undefined)
  static #count = 0
  readonly id = `f${(Form.#count += 1)}`

  /** Id of a field's control; the error summary links to it. */
  controlId(name: string): string {
    return `${this.id}-${name.replaceAll(/[^\w]/g, '-')}`
  }

  get hasErrors(): boolean {
    return this.problem !== undefined || Object.keys(this.errors).length > 0
  }

  /** Runs `send` unless `check` finds errors. True when it went through. */
  async submit(check: () => FieldErrors, send: () => Promise<void>): Promise<boolean> {
    if (this.busy) return false
    this.problem = undefined
    this.errors = check()
    if (Object.keys(this.errors).length > 0) {
      await this.#showErrors()
      return false
    }
    this.busy = true
    try {
      await send()
      return true
    } catch (cause) {
      const error = toApiError(cause)
      this.problem = error
      this.errors = Object.fromEntries((error.problem.errors ?? []).map(({ field, detail }) => [field, detail]))
      await this.#showErrors()
      return false
    } finally {
      this.busy = false
    }
  }

  reset(): void {
    this.errors = {}
    this.problem = undefined
  }

  async #showErrors(): Promise<void> {
    await tick()
    document.getElementById(`${this.id}-errors`)?.focus()
  }
}

/** Collects the errors of required fields and of own checks: pairs of field and text, undefined texts drop out. */
export function fieldErrors(pairs: Record<string, string | undefined | false>): FieldErrors {
  return Object.fromEntries(Object.entries(pairs).filter((pair): pair is [string, string] => Boolean(pair[1])))
}

export function required(value: unknown, label: string): string | undefined {
  return value === '' || value === undefined || value === null ? `${label}を入力してください。` : undefined
}

export function chosen(value: string, label: string): string | undefined {
  return value === '' ? `${label}を選んでください。` : undefined
}

/** The password rule that the server also checks: 10 characters, 3 of 4 classes. */
export function passwordError(password: string): string | undefined {
  const classes = [/[A-Z]/, /[a-z]/, /\d/, /[^A-Za-z\d]/].filter((kind) => kind.test(password)).length
  if ([...password].length < 10) return 'パスワードは10文字以上で入力してください。'
  if (classes < 3) return '英大文字・英小文字・数字・記号のうち3種類以上を使ってください。'
  return undefined
}

export function emailError(email: string): string | undefined {
  if (!email) return 'メールアドレスを入力してください。'
  return /^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(email) ? undefined : 'メールアドレスの形式で入力してください。'
}
