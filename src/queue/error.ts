// The one error class of the queue. SQL functions raise SQLSTATE TQ000 with the code in `hint` and values in `detail`.

import { DatabaseError } from '../db/error.ts'

export const QUEUE_ERROR_CODES = [
  'task_not_found',
  'plan_not_found',
  'resource_missing', // ensureResources was not called for it
  'invalid_submission',
  'too_many_tasks',
  'circle', // would wait for itself, through others
  'later_position', // an explicit edge to a later position
  'prerequisite_ended_badly', // needs `complete` of what failed or was cancelled
  'idempotency_mismatch',
  'already_started',
  'already_ended',
  'not_ended',
  'not_held',
  'not_uncertain', // a verdict on a task whose outcome is known, or still to come
  'parent_decides', // a part of a complex task is retried by retrying that
  'stale_attempt',
  'asked_to_stop', // a task that wants to expand was cancelled before it had children
  'lease_lost',
  'dispatcher_not_found',
  'not_binding' // bind() of a task that was submitted without `binds`
] as const

export type QueueErrorCode = (typeof QUEUE_ERROR_CODES)[number]

export class QueueError extends Error {
  readonly code: QueueErrorCode
  /** Ids of tasks that the message is about, such as those of a circle. */
  readonly tasks: readonly number[]

  constructor(code: QueueErrorCode, message: string, options: { tasks?: readonly number[]; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'QueueError'
    this.code = code
    this.tasks = options.tasks ?? []
  }
}

const SQLSTATE = 'TQ000'

function isQueueErrorCode(code: string | undefined): code is QueueErrorCode {
  return (QUEUE_ERROR_CODES as readonly (string | undefined)[]).includes(code)
}

/** Awaits a statement; what a queue function raised comes out as a QueueError, everything else unchanged. */
export async function raised<T>(statement: Promise<T>): Promise<T> {
  try {
    return await statement
  } catch (error) {
    if (error instanceof DatabaseError && error.sqlState === SQLSTATE && isQueueErrorCode(error.hint)) {
      const tasks = (error.detail ?? '').split(',').map(Number).filter(Number.isSafeInteger)
      throw new QueueError(error.hint, error.message, { tasks: error.detail ? tasks : [], cause: error })
    }
    throw error
  }
}
