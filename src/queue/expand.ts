// A running task becomes complex: it gets children and awaits them. What may wait for whom is decided in sql/0008_queue_expand.sql.

import type { Sql } from '../db/open.ts'
import { QueueError, raised } from './error.ts'
import { ensureResources, taskRow } from './submit.ts'
import type { NewTask } from './task.ts'

export type Expanded = {
  /** Ids, in the order of `children`, the refused ones among them. */
  children: number[]
  /** Ended at once as failed: they would have closed a circle, or named what they cannot come after. */
  refused: { index: number; code: string; message: string }[]
}

type ExpandRow = {
  kind: 'child' | 'refused' | 'stale' | 'cancelled' | 'lease_lost'
  child: number
  id: number
  error: { code: string; message: string } | null
}

/**
 * The task awaits its children, holds no slot, and is ready again when all of them have ended: whoever claims it then hears what
 * became of them. It keeps its claims; its children may claim what it holds.
 * @throws QueueError lease_lost, too_many_tasks; asked_to_stop: it has no children, and is to be ended as cancelled
 */
export async function expand(
  db: Sql,
  request: { dispatcher: number; task: number; attempt: number; children: readonly NewTask[] }
): Promise<Expanded | 'stale'> {
  const { dispatcher, task, attempt, children } = request
  await ensureResources(db, [...new Set(children.flatMap(({ claims }) => claims.map(({ resource }) => resource)))])
  const rows = await raised(
    db.query<ExpandRow>('select * from queue.expand($1, $2, $3, $4::jsonb)', [
      dispatcher,
      task,
      attempt,
      JSON.stringify(children.map(taskRow))
    ])
  )
  const [first] = rows
  if (first?.kind === 'stale') return 'stale'
  if (first?.kind === 'cancelled') {
    throw new QueueError('asked_to_stop', `task ${task} was asked to stop before it had any children`, {
      tasks: [task]
    })
  }
  if (first?.kind === 'lease_lost') {
    throw new QueueError('lease_lost', `the lease of dispatcher ${dispatcher} has run out`)
  }
  const refused = rows.flatMap(({ kind, child, error }) =>
    kind === 'refused' && error ? [{ index: child, code: error.code, message: error.message }] : []
  )
  return { children: rows.map(({ id }) => id), refused }
}
