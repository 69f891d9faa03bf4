import type { Facility } from '$lib/api/types'
import { programmeChoices, programmeText, type Choice } from './word'

/** The programmes of a facility as choices; all when the server does not name them. */
export function programmesOf(facility: Facility | undefined): Choice[] {
  if (!facility?.programmes) return programmeChoices
  return facility.programmes.map((programme) =>
    typeof programme === 'string' ? { value: programme, text: programmeText(programme) } : { value: programme.programme_code, text: programme.name },
  )
}
