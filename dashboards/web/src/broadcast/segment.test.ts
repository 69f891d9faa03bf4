import { describe, expect, it } from 'vitest'
import { blank, conditionText, isComplete, isEverybody, KINDS, type Condition } from './segment'

const names = { ward: (code: string) => `区${code}`, topic: (code: string) => code }

describe('segments', () => {
  it('are for everybody only without any condition', () => {
    expect(isEverybody({ kind: 'all', of: [] })).toBe(true)
    expect(isEverybody({ kind: 'all', of: [{ kind: 'all', of: [] }] })).toBe(true)
    expect(isEverybody({ kind: 'all', of: [{ kind: 'inactive', days: 3 }] })).toBe(false)
    expect(isEverybody({ kind: 'any', of: [] })).toBe(false)
  })

  it('are complete when every condition has what it needs', () => {
    expect(isComplete(blank('ward'))).toBe(false)
    expect(isComplete({ kind: 'ward', codes: ['1'] })).toBe(true)
    expect(isComplete({ kind: 'child_age_months', from: 12, to: 3 })).toBe(false)
    expect(isComplete({ kind: 'all', of: [{ kind: 'any', of: [] }] })).toBe(false)
    for (const { value } of KINDS) expect(() => isComplete(blank(value))).not.toThrow()
  })

  it('are told in words, groups in brackets', () => {
    const tree: Condition = {
      kind: 'all',
      of: [{ kind: 'ward', codes: ['1', '2'] }, { kind: 'any', of: [{ kind: 'inactive', days: 30 }, { kind: 'topic', topics: ['health'] }] }],
    }
    expect(conditionText(tree, names)).toBe('行政区：区1・区2 かつ （30日以上利用がない または 関心：health）')
    expect(conditionText({ kind: 'all', of: [] }, names)).toBe('すべての方')
  })
})
