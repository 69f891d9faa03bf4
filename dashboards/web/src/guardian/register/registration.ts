import { knownLanguage } from '$lib/label/word'
import { emptyChild } from '$src/household/ChildFields.svelte'

export function blankRegistration() {
  return {
    municipality_code: '', email: '', name: '', name_kana: '', sex: '', birth_date: '', postal_code: '', ward_code: '', address: '', phone: '',
    language: knownLanguage(navigator.languages),
    children: [emptyChild()],
  }
}

/** Optional fields that were left empty are not sent. */
function filled<T extends object>(fields: T): Partial<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== '')) as Partial<T>
}

export function registrationBody(draft: ReturnType<typeof blankRegistration>, password: string, consents: { terms: boolean; privacy: boolean; usage_analytics: boolean }) {
  const { children, ...guardian } = draft
  return { ...filled({ ...guardian, email: guardian.email.trim() }), password, children: children.map((child) => filled(child)), consents }
}
