import { api } from '$lib/api/client'
import type { Municipality, Page } from '$lib/api/types'
import { session } from '$lib/session/session.svelte'
import { resource } from '$lib/store/resource.svelte'
import type { Choice } from '$lib/label/word'

// The same list as in a guardian's settings (topic.rs in domain).
export const topicChoices: Choice[] = [
  { value: 'events', text: 'イベント・講座' }, { value: 'health', text: '健診・予防接種' }, { value: 'childcare', text: '一時預かり・保育' },
  { value: 'benefits', text: '手当・給付' }, { value: 'counselling', text: '子育て相談' }, { value: 'single_parent', text: 'ひとり親家庭への支援' },
  { value: 'safety', text: '防災・安全' },
]

/** Names for the codes in conditions, of the person's own municipality. */
export function conditionNames() {
  const municipalities = resource((signal) => api.get<Page<Municipality>>('/v1/municipalities', { signal }))
  const wards = $derived(municipalities.data?.items.find((item) => item.municipality_code === session.account?.municipality_code)?.wards ?? [])
  return {
    get wards(): Choice[] {
      return wards.map((ward) => ({ value: ward.ward_code, text: ward.name }))
    },
    ward: (code: string) => wards.find((ward) => ward.ward_code === code)?.name ?? code,
    topic: (code: string) => topicChoices.find((choice) => choice.value === code)?.text ?? code,
  }
}

export type ConditionNames = ReturnType<typeof conditionNames>
