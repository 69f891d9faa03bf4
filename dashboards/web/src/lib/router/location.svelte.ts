import { tick } from 'svelte'

/** Where the person is, and how to go elsewhere. One instance for the page. */
class Location {
  path = $state(location.pathname)
  search = $state(location.search)

  constructor() {
    window.addEventListener('popstate', () => this.#read())
    document.addEventListener('click', (event) => this.#onClick(event))
  }

  get query(): URLSearchParams {
    return new URLSearchParams(this.search)
  }

  go(to: string, options: { replace?: boolean } = {}): void {
    if (options.replace) history.replaceState(null, '', to)
    else history.pushState(null, '', to)
    this.#read()
  }

  /** Changes the query only, without a new history entry: filters and tabs stay in the address. */
  setQuery(changes: Record<string, string | undefined>): void {
    const query = this.query
    for (const [key, value] of Object.entries(changes)) {
      if (value) query.set(key, value)
      else query.delete(key)
    }
    const text = query.toString()
    history.replaceState(null, '', text ? `${this.path}?${text}` : this.path)
    this.search = location.search
  }

  #read(): void {
    this.path = location.pathname
    this.search = location.search
  }

  #onClick(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return
    const anchor = (event.target as Element | null)?.closest?.('a[href]')
    if (!(anchor instanceof HTMLAnchorElement) || anchor.target || anchor.hasAttribute('download')) return
    const url = new URL(anchor.href)
    if (url.origin !== location.origin || /^\/(v1|demo)(\/|$)/.test(url.pathname)) return
    if (url.pathname === location.pathname && url.search === location.search && url.hash) return
    event.preventDefault()
    this.go(url.pathname + url.search)
  }
}

export const here = new Location()

/** Moves the reading position to the new page's heading, so that a screen reader starts there. */
export async function focusHeading(): Promise<void> {
  await tick()
  const heading = document.querySelector<HTMLElement>('main h1')
  heading?.focus({ preventScroll: true })
  window.scrollTo({ top: 0 })
}
