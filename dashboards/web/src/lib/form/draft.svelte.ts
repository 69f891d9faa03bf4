const PREFIX = 'todoke.draft.'

/** Reads a kept draft; undefined when there is none or it cannot be read. */
export function readDraft<T>(key: string): T | undefined {
  try {
    const text = localStorage.getItem(PREFIX + key)
    return text ? (JSON.parse(text) as T) : undefined
  } catch {
    return undefined
  }
}

export function dropDraft(key: string): void {
  localStorage.removeItem(PREFIX + key)
}

export function clearDrafts(): void {
  for (const key of Object.keys(localStorage)) if (key.startsWith(PREFIX)) localStorage.removeItem(key)
}

/** Keeps what `value` reads in the draft of this key, whenever it changes. Call while a component is created. */
export function keepDraft(key: string, value: () => unknown): void {
  $effect(() => {
    const text = JSON.stringify(value())
    try {
      localStorage.setItem(PREFIX + key, text)
    } catch {
      // Storage full or forbidden: the form still works, only without a draft.
    }
  })
}
