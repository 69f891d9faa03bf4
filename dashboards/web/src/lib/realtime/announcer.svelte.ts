export interface Toast {
  id: number
  title: string
  body?: string
  link?: string
  tone: 'info' | 'good' | 'bad'
}

const SHOWN_MS = 8_000

/** Short messages that slide in, each also read out by screen readers. */
class Announcer {
  toasts = $state<Toast[]>([])
  /** Text of the live region. */
  spoken = $state('')
  #next = 1

  show(toast: Omit<Toast, 'id'>): void {
    const id = this.#next++
    this.toasts = [...this.toasts.slice(-2), { ...toast, id }]
    this.say(toast.body ? `${toast.title}。${toast.body}` : toast.title)
    setTimeout(() => this.dismiss(id), SHOWN_MS)
  }

  /** Reads a text out without showing it. The same text twice in a row must still be a change. */
  say(text: string): void {
    this.spoken = this.spoken === text ? `${text}\u00a0` : text
  }

  dismiss(id: number): void {
    this.toasts = this.toasts.filter((toast) => toast.id !== id)
  }
}

export const announcer = new Announcer()
