// docs/states.md shows every state and transition of src/queue/state.ts, and nothing else.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { phaseOf, PHASES, TASK_STATES, TRANSITIONS, UNDO_STATES } from '../../src/queue/state.ts'

const page = await readFile(join(import.meta.dirname, '../../docs/states.md'), 'utf8')

/** The cells of the table under a heading, without its own heading. */
function table(heading: string): string[][] {
  const [, section = ''] = page.split(`\n## ${heading}\n`)
  const lines = section
    .split('\n## ')[0]!
    .split('\n')
    .filter((line) => line.startsWith('|'))
  return lines.slice(2).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim())
  )
}

const words = (text: string): string[] => [...text.matchAll(/`([a-z_]+)`/g)].map(([, word]) => word!)

test('every state is there with its phase, in order', () => {
  expect(table('States').map(([state, phase]) => [words(state!)[0], phase])).toEqual(
    TASK_STATES.map((state) => [state, phaseOf(state)])
  )
})

test('the transitions are those of the table, and no others', () => {
  expect(table('Transitions').map(([from, to]) => [words(from!)[0], words(to!)])).toEqual(
    TASK_STATES.map((state) => [state, [...TRANSITIONS[state]]])
  )
})

test('the precedence is that of the phase `new`', () => {
  const [, sentence = ''] = page.split('The first of these is shown: ')
  expect(words(sentence.split('.')[0]!)).toEqual([...PHASES.new])
})

test('the states of undo are there, in order', () => {
  expect(table('Undo').map(([state]) => words(state!)[0])).toEqual([...UNDO_STATES])
})
