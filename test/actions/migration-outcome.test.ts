// The table of what became of a migration, held against the rules as they are written down, over everything that two hosts can say.
import { expect, test } from 'vitest'
import { outcomeOfMigration, type MigrationOutcome, type Side } from '../../src/actions/migration-outcome.ts'

type Told = Exclude<Side, 'silent' | null>
type Holds = (side: Told | null) => boolean

const active = (side: Told | null): boolean => side !== null && side.power !== 'off' && side.power !== 'crashed'
const is = (side: Told | null, power: string, ...reasons: string[]): boolean =>
  side?.power === power && (reasons.length === 0 || reasons.includes(side.reason))
const waits: Holds = (side) => is(side, 'paused', 'migrating', 'starting up')
const postCopy: Holds = (side) => side !== null && side.reason.startsWith('post-copy')
const stands: Holds = (side) => active(side) && !is(side, 'paused', 'migrating') && side?.job === false

/** In this order; the first that holds decides. Both hosts answered. */
const rules: [Holds, Holds, MigrationOutcome][] = [
  [(side) => side?.reason === 'post-copy failed', postCopy, 'post_copy_broken'],
  [(side) => active(side) && side?.job === true, (side) => side?.reason === 'post-copy', 'going_on'],
  [(side) => !active(side), postCopy, 'uncertain'],
  [(side) => is(side, 'running'), (side) => is(side, 'running'), 'both_running'],
  [
    (side) => is(side, 'paused', 'migrating') && side?.job === false,
    (side) => is(side, 'running', 'migrated'),
    'at_target_source_left'
  ],
  [(side) => !active(side), (side) => is(side, 'running') || is(side, 'paused', 'user'), 'at_target'],
  // A job at the source means that it is still at it, whatever the target shows by then.
  [(side) => active(side) && side?.job === true, () => true, 'going_on'],
  [stands, waits, 'at_source_target_left'],
  [stands, (side) => !active(side), 'at_source'],
  [(side) => !active(side), (side) => !active(side), 'nowhere'],
  [() => true, () => true, 'uncertain']
]

const powers = ['running', 'paused', 'stopping', 'suspended', 'crashed', 'off'] as const
const reasons = ['booted', 'migrated', 'migrating', 'user', 'starting up', 'post-copy', 'post-copy failed', 'io error']
const told: (Told | null)[] = [
  null,
  ...powers.flatMap((power) => reasons.flatMap((reason) => [true, false].map((job): Told => ({ power, reason, job }))))
]

test('every pair of answers is decided by the first rule that holds', () => {
  const decided = new Map<number, number>()
  for (const source of told) {
    for (const target of told) {
      const at = rules.findIndex(([ofSource, ofTarget]) => ofSource(source) && ofTarget(target))
      const expected = rules[at]?.[2]
      expect(outcomeOfMigration(source, target).outcome, JSON.stringify({ source, target })).toBe(expected)
      decided.set(at, (decided.get(at) ?? 0) + 1)
    }
  }
  expect([...decided.keys()].toSorted((a, b) => a - b)).toEqual(rules.map((_, index) => index))
})

test('a host that cannot be asked decides before anything that the other says', () => {
  for (const side of told) {
    expect(outcomeOfMigration('silent', side).outcome).toBe('uncertain')
    expect(outcomeOfMigration(side, 'silent').outcome).toBe('uncertain')
  }
})

test('nothing is ever taken away at the source unless the target runs, nor at the target unless the source stands', () => {
  for (const source of told) {
    for (const target of told) {
      const { outcome } = outcomeOfMigration(source, target)
      if (outcome === 'at_target_source_left') expect(target).toMatchObject({ power: 'running', reason: 'migrated' })
      if (outcome === 'at_source_target_left') {
        expect(active(source)).toBe(true)
        expect(target?.power).toBe('paused')
      }
    }
  }
})
