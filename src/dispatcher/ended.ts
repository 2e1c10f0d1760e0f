// What became of an attempt, as the queue records it.
import type { Outcome } from '../actions/action.ts'
import type { ClaimedTask, End } from '../queue/dispatch.ts'

export const ended = (task: ClaimedTask, end: Exclude<Outcome, { outcome: 'expand' }>): End => ({
  task: task.id,
  attempt: task.attempt,
  ...end
})
