// The table of what became of a migration, held against the rules as they are written down, over everything that two hosts can say.
import { describe, expect, test } from 'vitest'
import {
  migrationRows,
  outcomeOfMigration,
  type MigrationOutcome,
  type Side
} from '../../src/actions/migration-outcome.ts'

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

const side = (power: 'running' | 'paused' | 'off' | 'stopping', reason: string, job = false): Side => ({
  power,
  reason,
  job
})
const runs = side('running', 'booted')
const off = side('off', 'migrated')
const arriving = side('paused', 'migrating')

describe('what became of a migration', () => {
  // One case a row and more where a row says "or"; the index is that of the row that must decide.
  const cases: [number, string, Side, Side, MigrationOutcome][] = [
    [0, 'a silent source', 'silent', side('running', 'migrated'), 'uncertain'],
    [0, 'two silent hosts', 'silent', 'silent', 'uncertain'],
    [1, 'a silent target', runs, 'silent', 'uncertain'],
    [1, 'a silent target while the source copies', side('running', 'booted', true), 'silent', 'uncertain'],
    [
      2,
      'a post-copy that lost its link',
      side('paused', 'post-copy failed'),
      side('paused', 'post-copy failed'),
      'post_copy_broken'
    ],
    [
      2,
      'a post-copy that only the source gave up',
      side('paused', 'post-copy failed', true),
      side('running', 'post-copy'),
      'post_copy_broken'
    ],
    [3, 'a post-copy under way', side('paused', 'post-copy', true), side('running', 'post-copy'), 'going_on'],
    [4, 'a post-copy whose source is gone', null, side('running', 'post-copy'), 'uncertain'],
    [4, 'a post-copy whose source was powered off', off, side('paused', 'post-copy failed'), 'uncertain'],
    [5, 'two running copies', runs, side('running', 'migrated'), 'both_running'],
    [5, 'two running copies, with a job', side('running', 'booted', true), side('running', 'booted'), 'both_running'],
    [
      6,
      'a source that never heard of the switch-over',
      side('paused', 'migrating'),
      side('running', 'migrated'),
      'at_target_source_left'
    ],
    [7, 'a good end', null, side('running', 'migrated'), 'at_target'],
    [7, 'a good end with a definition left', off, side('running', 'migrated'), 'at_target'],
    [7, 'a paused VM that was moved', null, side('paused', 'user'), 'at_target'],
    [8, 'the copying of memory', side('running', 'booted', true), arriving, 'going_on'],
    [
      8,
      'the copying of memory to a target that starts up',
      side('running', 'booted', true),
      side('paused', 'starting up'),
      'going_on'
    ],
    [9, 'a target that is not prepared yet', side('running', 'booted', true), null, 'going_on'],
    [
      9,
      'a source that is about to hear of the end',
      side('paused', 'migrating', true),
      side('running', 'migrated'),
      'going_on'
    ],
    [10, 'a target that waits in vain', runs, arriving, 'at_source_target_left'],
    [
      10,
      'a target that starts up in vain',
      side('paused', 'user'),
      side('paused', 'starting up'),
      'at_source_target_left'
    ],
    [11, 'nothing moved', runs, null, 'at_source'],
    [11, 'nothing moved, with another definition at the target', runs, off, 'at_source'],
    [11, 'nothing moved of a paused VM', side('paused', 'user'), null, 'at_source'],
    [12, 'a VM that is nowhere', null, null, 'nowhere'],
    [12, 'a VM that ended on the way', side('off', 'crashed'), off, 'nowhere'],
    [13, 'a source paused for a migration, and no target', side('paused', 'migrating'), null, 'uncertain'],
    [13, 'a source paused for a migration, and a waiting target', side('paused', 'migrating'), arriving, 'uncertain'],
    [
      13,
      'a running target and a source that somebody paused',
      side('paused', 'user'),
      side('running', 'migrated'),
      'uncertain'
    ],
    [13, 'no source and a target that only waits', null, arriving, 'uncertain']
  ]

  test.each(cases)('row %i: %s', (row, _, source, target, outcome) => {
    const decided = outcomeOfMigration(source, target)
    expect(decided.outcome).toBe(outcome)
    expect(migrationRows.indexOf(decided)).toBe(row)
  })

  test('every row decides something', () => {
    expect([...new Set(cases.map(([row]) => row))]).toEqual(migrationRows.map((_, index) => index))
  })

  test('only a target that is known to run ends well, whatever else the hosts say', () => {
    const all: Side[] = ['silent', null]
    for (const power of powers)
      for (const reason of reasons) for (const job of [true, false]) all.push({ power, reason, job })
    for (const source of all) {
      for (const target of all) {
        const { outcome } = outcomeOfMigration(source, target)
        if (outcome !== 'at_target' && outcome !== 'at_target_source_left') continue
        expect(target).toMatchObject({ power: expect.stringMatching(/running|paused/) })
        // The source is known, and does not run.
        expect(source).not.toBe('silent')
        expect(source === null || (source !== 'silent' && source.power !== 'running')).toBe(true)
      }
    }
  })
})
