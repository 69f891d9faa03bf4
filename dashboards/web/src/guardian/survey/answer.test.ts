import { describe, expect, it } from 'vitest'
import type { Question } from '$lib/api/types'
import { answersOf, entriesOf, entryError } from './answer'

const questions: Question[] = [
  { question_no: 1, kind: 'single', text: 'a', options: ['x', 'y'], required: true },
  { question_no: 2, kind: 'multiple', text: 'b', options: ['x', 'y', 'z'], required: false },
  { question_no: 3, kind: 'scale', text: 'c', required: false, min: 1, max: 5 },
  { question_no: 4, kind: 'number', text: 'd', required: false, min: 0, max: 10 },
  { question_no: 5, kind: 'text', text: 'e', required: false },
]

describe('survey answers', () => {
  it('round-trips all five kinds', () => {
    const answer = [
      { question_no: 1, options: [2] }, { question_no: 2, options: [1, 3] }, { question_no: 3, number: 4 },
      { question_no: 4, number: 0 }, { question_no: 5, text: 'はい' },
    ]
    expect(answersOf(questions, entriesOf(questions, answer))).toEqual(answer)
  })

  it('leaves out what was not answered and asks for what is required', () => {
    const entries = entriesOf(questions, null)
    expect(answersOf(questions, entries)).toEqual([])
    expect(questions.map((question) => entryError(question, entries[question.question_no]))).toEqual([
      '問1に回答してください。', undefined, undefined, undefined, undefined,
    ])
  })

  it('checks numbers, full-width ones too', () => {
    const number = questions[3] as Question
    expect(entryError(number, { options: [], number: '１０', text: '' })).toBeUndefined()
    expect(entryError(number, { options: [], number: '11', text: '' })).toContain('0〜10')
    expect(entryError(number, { options: [], number: 'abc', text: '' })).toContain('数字')
  })
})
