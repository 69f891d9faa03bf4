import { expect, test } from 'vitest'
import { canBePicked } from './claim'

test('each side picks only what is its turn', () => {
  const states = ['created', 'submitted', 'received', 'forwarded', 'transfer_requested', 'paid', 'transfer_failed']
  const picked = (role: Parameters<typeof canBePicked>[0]) => states.filter((state) => canBePicked(role, state))
  expect(picked('operator')).toEqual(['received'])
  expect(picked('app_section')).toEqual(['forwarded', 'transfer_failed'])
  expect(picked('facility_manager')).toEqual([])
  expect(picked('municipal_staff')).toEqual([])
})
