import { api } from '$lib/api/client'
import { toApiError, type ApiError } from '$lib/api/problem'
import type { Page } from '$lib/api/types'
import type { Resource } from './resource.svelte'

/** Appends further pages to a list resource. */
export class Pages<T, P extends Page<T> = Page<T>> {
  busy = $state(false)
  error = $state.raw<ApiError | undefined>(undefined)
  readonly #list: Resource<P>
  readonly #path: () => string

  constructor(list: Resource<P>, path: () => string) {
    this.#list = list
    this.#path = path
  }

  get hasMore(): boolean {
    return Boolean(this.#list.data?.next)
  }

  more = async (): Promise<void> => {
    const cursor = this.#list.data?.next
    if (!cursor || this.busy) return
    this.busy = true
    this.error = undefined
    try {
      const page = await api.get<P>(this.#path(), { query: { cursor } })
      this.#list.update((data) => ({ ...data, items: [...data.items, ...page.items], next: page.next ?? null }))
    } catch (cause) {
      this.error = toApiError(cause)
    } finally {
      this.busy = false
    }
  }
}
