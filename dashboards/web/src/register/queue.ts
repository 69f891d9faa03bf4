import type { Application, Page } from '$lib/api/types'
import { mergeByKey, type Publication } from '$lib/realtime/feed'

export interface ApplicationPage extends Page<Application> {
  counts?: Record<string, number>
}

export const isApplication = (publication: Publication): boolean =>
  publication.subject?.kind === 'application' || publication.type.startsWith('application.')

/** The queue with the application a publication tells of; rows that no longer fit the filter leave. */
export function withApplication(page: ApplicationPage, changed: Application, state: string): ApplicationPage {
  if (state && changed.state !== state) return { ...page, items: page.items.filter((item) => item.application_id !== changed.application_id) }
  return { ...page, items: mergeByKey(page.items, changed, (item) => item.application_id) }
}
