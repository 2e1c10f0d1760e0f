// The states of a task and the transitions between them, as data. PostgreSQL's enum queue.state holds the same words in the
// same order (test/queue/state.test.ts), and docs/states.md shows this table.

export const TASK_STATES = [
  'held',
  'waiting',
  'scheduled',
  'parked',
  'ready',
  'running',
  'awaiting',
  'cancelling',
  'uncertain',
  'complete',
  'failed',
  'cancelled'
] as const

export type TaskState = (typeof TASK_STATES)[number]

/** `new` in order of precedence: of several reasons why a task is not running, the first is shown. */
export const PHASES = {
  new: ['held', 'waiting', 'scheduled', 'parked', 'ready'],
  in_progress: ['running', 'awaiting', 'cancelling', 'uncertain'],
  ended: ['complete', 'failed', 'cancelled']
} as const satisfies { [phase: string]: readonly TaskState[] }

export type Phase = keyof typeof PHASES
export type EndState = (typeof PHASES.ended)[number]

const PHASE_BY_STATE = new Map<TaskState, Phase>(
  (Object.keys(PHASES) as Phase[]).flatMap((phase) => PHASES[phase].map((state) => [state, phase] as const))
)

export function phaseOf(state: TaskState): Phase {
  return PHASE_BY_STATE.get(state) ?? 'ended'
}

export const isEnded = (state: TaskState): state is EndState => phaseOf(state) === 'ended'

/** Beside the state of what has ended: what became of its inverse. */
export const UNDO_STATES = ['none', 'undone', 'partly_undone', 'impossible', 'needs_operator'] as const
export type UndoState = (typeof UNDO_STATES)[number]

// Every reason not to run may come and go while a task is new; only from `ready` is a task claimed.
const REASONS = ['held', 'waiting', 'scheduled', 'parked', 'ready'] as const
const but = (state: TaskState) => REASONS.filter((reason) => reason !== state)

/** Where a task may go from each state. Retry by an operator (from an ended state) starts a new life at a new position. */
export const TRANSITIONS = {
  held: [...but('held'), 'failed', 'cancelled'],
  waiting: [...but('waiting'), 'failed', 'cancelled'],
  scheduled: [...but('scheduled'), 'failed', 'cancelled'],
  parked: [...but('parked'), 'failed', 'cancelled'],
  // To waiting: a child of a task before it, or a late claim, was put in front of it.
  ready: [...but('ready'), 'running', 'failed', 'cancelled'],
  // To waiting: its final claims were not free. To scheduled, parked: to be tried again. To ready: taken over, did not happen.
  running: [
    'waiting',
    'scheduled',
    'parked',
    'ready',
    'awaiting',
    'cancelling',
    'uncertain',
    'complete',
    'failed',
    'cancelled'
  ],
  // To ready: its children have ended. To running: its deadline passed and it is probed.
  awaiting: ['ready', 'running', 'scheduled', 'parked', 'cancelling', 'uncertain', 'complete', 'failed', 'cancelled'],
  // To complete: it was too late to stop it. To ready: its children have ended, it decides now.
  cancelling: ['ready', 'scheduled', 'parked', 'awaiting', 'uncertain', 'complete', 'failed', 'cancelled'],
  uncertain: ['ready', 'scheduled', 'parked', 'running', 'cancelling', 'complete', 'failed', 'cancelled'],
  complete: [],
  failed: [...REASONS],
  cancelled: [...REASONS]
} as const satisfies { [state in TaskState]: readonly TaskState[] }

export function mayGo(from: TaskState, to: TaskState): boolean {
  return (TRANSITIONS[from] as readonly TaskState[]).includes(to)
}
