import type { Component } from 'svelte'

/** A screen of the app. `pattern` may hold `:name` parts; `screen` is its id in the specification. */
export interface Route {
  pattern: string
  screen: string
  title: string
  load: () => Promise<{ default: Component<any> }>
  /** Shown without a session. */
  open?: boolean
}

export interface Matched {
  route: Route
  params: Record<string, string>
}

/** Finds the first route for a path; trailing slashes do not matter. Undefined: no such page. */
export function matchRoute(routes: readonly Route[], path: string): Matched | undefined {
  const parts = segments(path)
  for (const route of routes) {
    const params = matchSegments(segments(route.pattern), parts)
    if (params) return { route, params }
  }
  return undefined
}

function segments(path: string): string[] {
  return path.split('/').filter(Boolean)
}

function matchSegments(pattern: string[], parts: string[]): Record<string, string> | undefined {
  if (pattern.length !== parts.length) return undefined
  const params: Record<string, string> = {}
  for (const [i, expected] of pattern.entries()) {
    const actual = parts[i] ?? ''
    if (expected.startsWith(':')) {
      try {
        params[expected.slice(1)] = decodeURIComponent(actual)
      } catch {
        return undefined
      }
    } else if (expected !== actual) {
      return undefined
    }
  }
  return params
}

/** A path of our own app that is safe to open from a message or a `next` parameter: never another origin. */
export function ownPath(link: string | null | undefined, fallback: string): string {
  if (!link || !/^\/(?![/\\])/.test(link)) return fallback
  return link
}
