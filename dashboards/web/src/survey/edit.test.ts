import { describe, expect, it } from 'vitest'
import { blankQuestion, blankSurvey, bodyOf, draftOf, surveyErrors } from './edit'

const now = new Date('2026-11-21T01:00:00Z')

describe('survey editor', () => {
  it('asks for everything a survey needs', () => {
    expect(Object.keys(surveyErrors(blankSurvey(now))).sort()).toEqual(['questions[0].options', 'questions[0].text', 'text', 'title'])
    const scale = { ...blankQuestion(1), kind: 'scale' as const, text: 'a', min: '5', max: '1' }
    expect(surveyErrors({ ...blankSurvey(now), title: 'a', text: 'b', questions: [scale] })).toHaveProperty(['questions[0].max'])
  })

  it('sends each kind with its own fields and reads it back', () => {
    const draft = {
      ...blankSurvey(now), title: ' 題 ', text: '文',
      questions: [
        { ...blankQuestion(1), text: '一', options: ['はい', '', 'いいえ'] },
        { ...blankQuestion(2), kind: 'scale' as const, text: '二', kpi: 'K24' },
        { ...blankQuestion(3), kind: 'text' as const, text: '三', required: false },
      ],
    }
    const body = bodyOf(draft)
    expect(body.opens_at).toBe('2026-11-22T01:00:00.000Z')
    expect(body.questions).toEqual([
      { question_no: 1, kind: 'single', text: '一', required: true, options: ['はい', 'いいえ'] },
      { question_no: 2, kind: 'scale', text: '二', required: true, min: 1, max: 5, kpi: 'K24' },
      { question_no: 3, kind: 'text', text: '三', required: false },
    ])
    expect(bodyOf(draftOf({ ...body, survey_id: 's', state: 'draft' }))).toEqual(body)
  })
})
