// Tasks as the API shows them: the queue's rows in words for people and programs.
import { Type, type Static } from 'typebox'

/**
 * What a task is shown as. `held` to `ready` are all `new` to the queue; which one is said by precedence: held, waiting,
 * scheduled, parked, ready.
 */
export const taskStates = [
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
export type TaskState = (typeof taskStates)[number]

const endedStates = ['complete', 'failed', 'cancelled'] as const
export const hasEnded = (state: string): boolean => (endedStates as readonly string[]).includes(state)

const undoStates = ['none', 'undone', 'partly_undone', 'impossible', 'needs_operator'] as const

const orNull = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) => Type.Union([schema, Type.Null()])
const Instant = Type.String({ description: 'ISO 8601, UTC' })
const State = Type.Enum([...taskStates])

export const TaskProblem = Type.Object(
  {
    code: Type.String({ description: 'Stable, snake_case' }),
    message: Type.String(),
    step: Type.Optional(Type.String({ description: 'What was being done' })),
    next: Type.Optional(Type.String({ description: 'What to do next' })),
    details: Type.Optional(Type.Unknown()),
    causes: Type.Optional(Type.Array(Type.Object({ code: Type.Optional(Type.String()), message: Type.String() })))
  },
  { $id: 'TaskProblem' }
)
export type TaskProblem = Static<typeof TaskProblem>

const summaryFields = {
  id: Type.Integer(),
  action: Type.String(),
  title: Type.String(),
  state: State,
  /** What it waits for, in a few words. */
  note: orNull(Type.String({ description: 'Why it is in that state, where that is not plain: hold, park, error' })),
  priority: Type.Integer(),
  plan: orNull(Type.Integer()),
  parent: orNull(Type.Integer()),
  by: Type.String(),
  submittedAt: Instant,
  startedAt: orNull(Instant),
  endedAt: orNull(Instant),
  undo: Type.Enum([...undoStates], { description: 'What became of undoing what it did' })
}

export const TaskSummary = Type.Object(summaryFields, { $id: 'TaskSummary' })
export type TaskSummary = Static<typeof TaskSummary>

export const TaskView = Type.Object(
  {
    ...summaryFields,
    reason: orNull(Type.String()),
    args: Type.Unknown(),
    notBefore: orNull(Instant),
    attempt: Type.Integer({ description: 'How often it was tried' }),
    bound: Type.Unknown({
      description: 'What was decided as it started: the host, and for a placement every host that was considered'
    }),
    progress: Type.Unknown(),
    result: Type.Unknown(),
    evidence: Type.Unknown({ description: 'Of an uncertain task: what was found when it was looked for' }),
    error: orNull(TaskProblem),
    cancelRequested: orNull(Type.Object({ by: Type.String(), reason: orNull(Type.String()), at: Instant })),
    after: Type.Array(
      Type.Object({
        id: Type.Integer(),
        title: Type.String(),
        state: State,
        needs: Type.Union([Type.Literal('complete'), Type.Literal('ended')])
      }),
      { description: 'Prerequisites' }
    ),
    claims: Type.Array(
      Type.Object({ resource: Type.String(), mode: Type.Union([Type.Literal('shared'), Type.Literal('exclusive')]) })
    ),
    children: Type.Array(Type.Object({ id: Type.Integer(), title: Type.String(), state: State }))
  },
  { $id: 'Task' }
)
export type TaskView = Static<typeof TaskView>

export const TaskPage = Type.Object(
  {
    items: Type.Array(TaskSummary),
    next: orNull(Type.String({ description: 'Give it as `cursor` for the next page; null on the last' }))
  },
  { $id: 'TaskPage' }
)
export type TaskPage = Static<typeof TaskPage>

export const Why = Type.Object(
  {
    id: Type.Integer(),
    title: Type.String(),
    state: State,
    summary: Type.String({ description: 'In one sentence' }),
    reasons: Type.Array(
      Type.Object({
        kind: Type.String(),
        text: Type.String(),
        /** What ends it. */
        ends: Type.Optional(Type.String()),
        task: Type.Optional(Type.Object({ id: Type.Integer(), title: Type.String(), state: State })),
        resource: Type.Optional(Type.String()),
        since: Type.Optional(Instant)
      })
    )
  },
  { $id: 'Why' }
)
export type Why = Static<typeof Why>

export const LogLine = Type.Object(
  {
    id: Type.Integer(),
    at: Instant,
    attempt: orNull(Type.Integer()),
    level: Type.Enum(['debug', 'info', 'warn', 'error']),
    message: Type.String(),
    data: Type.Optional(Type.Unknown())
  },
  { $id: 'LogLine' }
)
export type LogLine = Static<typeof LogLine>

const planOutcomes = ['open', 'complete', 'failed', 'cancelled', 'undone', 'partly_undone', 'needs_operator'] as const

export const PlanView = Type.Object(
  {
    id: Type.Integer(),
    name: orNull(Type.String()),
    onFailure: Type.String(),
    by: Type.String(),
    reason: orNull(Type.String()),
    submittedAt: Instant,
    ended: Type.Boolean(),
    outcome: Type.Enum([...planOutcomes], {
      description:
        'open until its tasks have ended. Of what was done when it did not end well: undone, partly_undone (the rest cannot be), or needs_operator'
    }),
    undone: Type.Record(Type.String(), Type.Integer(), {
      description: 'Of its tasks that were to be undone: undone, impossible, needs_operator → how many'
    }),
    counts: Type.Record(Type.String(), Type.Integer(), {
      description: "State → how many of the plan's tasks are in it"
    })
  },
  { $id: 'Plan' }
)
export type PlanView = Static<typeof PlanView>

/** POST /plans/ID/undo */
export const PlanUndone = Type.Object(
  {
    task: Type.Integer({ description: 'The task that undoes it' }),
    title: Type.String(),
    left: Type.Array(Type.Object({ task: Type.Integer(), title: Type.String(), why: Type.String() }), {
      description: 'What was done and cannot be undone'
    })
  },
  { $id: 'PlanUndone' }
)
export type PlanUndone = Static<typeof PlanUndone>
