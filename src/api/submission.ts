// What is submitted, and what is answered. Arguments are checked against their action's own schema: see GET /actions.
import { Type, type Static } from 'typebox'

/** A plan of 10,000 tasks is accepted; more are to be split. */
const MAX_PLAN_TASKS = 10_000

const Key = Type.String({
  minLength: 1,
  maxLength: 200,
  pattern: '^[A-Za-z0-9][A-Za-z0-9._:/@-]*$',
  description: 'Names the task within its plan'
})
const reason = Type.Optional(Type.String({ maxLength: 1000, description: 'Why; kept with the task' }))

const taskFields = {
  action: Type.String({ minLength: 1, maxLength: 100, description: 'E.g. vm.start; see GET /actions' }),
  args: Type.Record(Type.String(), Type.Unknown(), { description: "The action's arguments" }),
  priority: Type.Optional(Type.Integer({ minimum: -100, maximum: 100, description: 'Larger first; default 0' })),
  notBefore: Type.Optional(
    Type.String({ format: 'date-time', maxLength: 40, description: 'Not to be started before' })
  ),
  hold: Type.Optional(
    Type.Object(
      { reason: Type.String({ minLength: 1, maxLength: 1000 }) },
      { additionalProperties: false, description: 'Held until it is released' }
    )
  )
}

/** POST /tasks */
export const TaskSubmission = Type.Object(
  {
    ...taskFields,
    after: Type.Optional(
      Type.Array(Type.Integer({ minimum: 1 }), { maxItems: 1000, description: 'Ids of tasks to wait for' })
    ),
    reason
  },
  { $id: 'TaskSubmission', additionalProperties: false }
)
export type TaskSubmission = Static<typeof TaskSubmission>

/** POST /plans */
export const PlanSubmission = Type.Object(
  {
    name: Type.Optional(Type.String({ minLength: 1, maxLength: 200 })),
    onFailure: Type.Optional(
      Type.Union([Type.Literal('stop'), Type.Literal('continue'), Type.Literal('rollback')], {
        description:
          'stop: what has not started is not started. continue: only what needs the failed task fails. rollback: what has not started is cancelled and what was done is undone, the last first. Default stop'
      })
    ),
    reason,
    tasks: Type.Array(
      Type.Object(
        {
          key: Type.Optional(Key),
          ...taskFields,
          after: Type.Optional(
            Type.Array(Type.Union([Key, Type.Integer({ minimum: 1 })]), {
              maxItems: 1000,
              description: 'Keys of tasks of this plan, or ids of tasks, to wait for'
            })
          )
        },
        { additionalProperties: false }
      ),
      { minItems: 1, maxItems: MAX_PLAN_TASKS }
    )
  },
  { $id: 'PlanSubmission', additionalProperties: false }
)
export type PlanSubmission = Static<typeof PlanSubmission>

export const Submitted = Type.Object(
  {
    plan: Type.Union([Type.Integer(), Type.Null()]),
    tasks: Type.Array(
      Type.Object({
        id: Type.Integer(),
        key: Type.Union([Type.String(), Type.Null()]),
        action: Type.String(),
        title: Type.String()
      })
    ),
    overtaken: Type.Array(Type.Object({ id: Type.Integer(), title: Type.String() }), {
      description: 'Unfinished tasks that were cancelled to make way'
    }),
    replayed: Type.Boolean({ description: 'The same Idempotency-Key was answered before: nothing was made now' })
  },
  { $id: 'Submitted' }
)
export type Submitted = Static<typeof Submitted>

const Because = Type.Union(
  [
    Type.Object({ kind: Type.Literal('asked') }),
    Type.Object({ kind: Type.Literal('needs') }),
    Type.Object({ kind: Type.Literal('claim'), resource: Type.String() })
  ],
  {
    description:
      'asked: `after` names it. needs: the task is possible only thanks to it. claim: both touch the resource, and it comes first'
  }
)

const PreviewedTask = Type.Object({
  index: Type.Integer(),
  key: Type.Union([Type.String(), Type.Null()]),
  action: Type.String(),
  title: Type.String(),
  irreversible: Type.Boolean(),
  nothingToDo: Type.Union([Type.String(), Type.Null()], { description: 'Why there will be nothing to do' }),
  claims: Type.Array(
    Type.Object({
      resource: Type.String(),
      mode: Type.Union([Type.Literal('shared'), Type.Literal('exclusive')])
    })
  ),
  after: Type.Array(
    Type.Object({
      task: Type.Union([Type.Integer(), Type.Object({ index: Type.Integer() })]),
      needs: Type.Union([Type.Literal('complete'), Type.Literal('ended')]),
      title: Type.String(),
      because: Type.Array(Because)
    }),
    { description: 'What it would wait for: elements of this submission by index, stored tasks by id' }
  ),
  afterMore: Type.Integer({ description: 'Further stored tasks: at most 100 a resource are listed' }),
  later: Type.Union([Type.String(), Type.Null()], {
    description: 'Held, or not due: it takes its place in the queue only then'
  }),
  preflight: Type.Union([Type.Array(Type.Record(Type.String(), Type.Unknown())), Type.Null()], {
    description:
      'What it would expand into, as the action tells it: of host.clear each VM and where it goes, or why it stays'
  })
})

export const Preview = Type.Object(
  {
    tasks: Type.Array(PreviewedTask),
    waitsFor: Type.Array(
      Type.Object({ id: Type.Integer(), action: Type.String(), title: Type.String(), state: Type.String() }),
      { description: 'The stored tasks that `after` names' }
    ),
    overtakes: Type.Array(Type.Object({ id: Type.Integer(), title: Type.String() }), {
      description: 'Unfinished tasks that would be cancelled to make way'
    })
  },
  { $id: 'Preview' }
)
export type Preview = Static<typeof Preview>
