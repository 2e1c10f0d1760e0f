// What became of a migration: a table over what both hosts say, as data. It decides nothing by events or replies.
// State and reason are matched together, the first row wins. Active = not off.
import { isActive, type ObservedVm } from '../model/vm.ts'

/** What one host says; `silent` cannot be asked, null has no such VM. Only the source tells of the job. */
export type Side = 'silent' | null | { power: ObservedVm['power']; reason: string; job: boolean }

export type MigrationOutcome =
  /** Its source still carries it: wait. */
  | 'going_on'
  /** It runs at the target, and at most a definition is left at the source. */
  | 'at_target'
  /** It runs at the target; the source's copy waits for nothing any more. */
  | 'at_target_source_left'
  /** Nothing moved: it is at the source, and nothing of it at the target. */
  | 'at_source'
  /** Nothing moved, but the target waits for what will not come. */
  | 'at_source_target_left'
  | 'both_running'
  | 'nowhere'
  | 'post_copy_broken'
  | 'uncertain'

const sides = {
  any: () => true,
  silent: (side) => side === 'silent',
  'off or absent': (side) => side === null || (told(side) && !isActive(side.power)),
  running: (side) => told(side) && side.power === 'running',
  'running (migrated)': (side) => told(side) && side.power === 'running' && side.reason === 'migrated',
  'running or paused (user)': (side) =>
    told(side) && (side.power === 'running' || (side.power === 'paused' && side.reason === 'user')),
  'post-copy failed': (side) => told(side) && side.reason === 'post-copy failed',
  'post-copy': (side) => told(side) && side.reason === 'post-copy',
  'post-copy or post-copy failed': (side) => told(side) && side.reason.startsWith('post-copy'),
  arriving: (side) => told(side) && side.power === 'paused' && ['migrating', 'starting up'].includes(side.reason),
  'paused (migrating), no job': (side) =>
    told(side) && side.power === 'paused' && side.reason === 'migrating' && !side.job,
  'active, job': (side) => told(side) && isActive(side.power) && side.job,
  'active, not migrating, no job': (side) =>
    told(side) && isActive(side.power) && !(side.power === 'paused' && side.reason === 'migrating') && !side.job
} satisfies Record<string, (side: Side) => boolean>

function told(side: Side): side is Exclude<Side, 'silent' | null> {
  return side !== 'silent' && side !== null
}

type SideName = keyof typeof sides

export type Row = { source: SideName; target: SideName; outcome: MigrationOutcome; why: string }

export const migrationRows: readonly Row[] = [
  { source: 'silent', target: 'any', outcome: 'uncertain', why: 'the source cannot be asked' },
  { source: 'any', target: 'silent', outcome: 'uncertain', why: 'the target cannot be asked' },
  {
    source: 'post-copy failed',
    target: 'post-copy or post-copy failed',
    outcome: 'post_copy_broken',
    why: 'the guest runs at the target and part of its memory is still at the source'
  },
  { source: 'active, job', target: 'post-copy', outcome: 'going_on', why: 'the target fetches the rest of the memory' },
  {
    source: 'off or absent',
    target: 'post-copy or post-copy failed',
    outcome: 'uncertain',
    why: 'part of the memory was at the source and is lost'
  },
  { source: 'running', target: 'running', outcome: 'both_running', why: 'two copies run, which destroys the disk' },
  {
    source: 'paused (migrating), no job',
    target: 'running (migrated)',
    outcome: 'at_target_source_left',
    why: 'it runs at the target, and the source never heard of it'
  },
  { source: 'off or absent', target: 'running or paused (user)', outcome: 'at_target', why: 'it is at the target' },
  { source: 'active, job', target: 'arriving', outcome: 'going_on', why: 'the memory is being copied' },
  // The two ends of a migration: the target is not prepared yet, or runs already and the source is about to hear of it.
  { source: 'active, job', target: 'any', outcome: 'going_on', why: 'the source is still at it' },
  {
    source: 'active, not migrating, no job',
    target: 'arriving',
    outcome: 'at_source_target_left',
    why: 'it is at the source, and the target waits for what will not come'
  },
  {
    source: 'active, not migrating, no job',
    target: 'off or absent',
    outcome: 'at_source',
    why: 'it is at the source'
  },
  { source: 'off or absent', target: 'off or absent', outcome: 'nowhere', why: 'it runs on neither host' },
  { source: 'any', target: 'any', outcome: 'uncertain', why: 'what the hosts say does not fit together' }
]

/** The first row that fits. */
export function outcomeOfMigration(source: Side, target: Side): Row {
  const row = migrationRows.find((candidate) => sides[candidate.source](source) && sides[candidate.target](target))
  if (!row) throw new Error('the last row fits everything')
  return row
}
