// An operator's word on a task of which nobody can tell whether it happened.
import type { Database } from '../db/open.ts'
import { doChores } from './chores.ts'
import { raised } from './error.ts'

/**
 * Ends an uncertain task: as complete when it happened, else as failed with code `verdict_did_not`. Kept with the evidence of that moment.
 * @throws QueueError task_not_found, already_ended, not_uncertain
 */
export async function giveVerdict(
  db: Database,
  verdict: { task: number; happened: boolean; by: string; reason: string }
): Promise<void> {
  const { task, happened, by, reason } = verdict
  await raised(db.query('select queue.give_verdict($1, $2, $3, $4)', [task, happened, by, reason]))
  await doChores(db)
}
