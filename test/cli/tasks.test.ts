// How a task is shown to people.

import { expect, test } from 'vitest'
import type { TaskView } from '../../src/api/task.ts'
import { progressText, taskSheet } from '../../src/cli/tasks.ts'

const task: TaskView = {
  id: 7,
  action: 'vm.create',
  title: 'Create web1',
  state: 'complete',
  note: null,
  priority: 0,
  plan: null,
  parent: null,
  by: 'admin',
  submittedAt: '2030-01-31T22:00:00.000Z',
  startedAt: null,
  endedAt: null,
  reason: null,
  args: {},
  notBefore: null,
  attempt: 1,
  bound: null,
  progress: null,
  result: null,
  evidence: null,
  error: null,
  cancelRequested: null,
  undo: 'none',
  after: [],
  claims: [],
  children: []
}

test('a placed task says which hosts were considered, and why each was or was not chosen', () => {
  const bound = {
    host: 'h1',
    considered: {
      chosen: 'h1',
      needMiB: 324,
      hosts: [
        { host: 'h1', freeMiB: 7641, why: 'most free memory' },
        { host: 'h2', freeMiB: 100, why: '100 MiB free, 324 MiB needed' }
      ],
      more: 248
    }
  }
  const lines = taskSheet({ ...task, bound })
    .split('\n')
    .map((line) => line.trim())
  const at = lines.findIndex((line) => line.startsWith('Considered:'))
  expect(lines.slice(at, at + 3)).toEqual([
    expect.stringMatching(/^Considered: +h1: most free memory$/),
    'h2: 100 MiB free, 324 MiB needed',
    'and 248 more'
  ])
})

test('a task that was bound without a placement says its host alone', () => {
  const text = taskSheet({ ...task, bound: { host: 'h3' } })
  expect(text).toMatch(/^Host: +h3$/m)
  expect(text).not.toContain('Considered')
})

test('progress is said as people say it', () => {
  expect(progressText({ done: 2 ** 30, total: 2 ** 32, unit: 'bytes', note: '12 s left' })).toBe(
    '1GiB of 4GiB (25 %), 12 s left'
  )
  expect(progressText({ done: 3, total: 12, unit: 'steps' })).toBe('3 of 12 steps (25 %)')
  expect(progressText({ done: 3, total: null, unit: 'files' })).toBe('3 files')
  expect(progressText(null)).toBeUndefined()
})
