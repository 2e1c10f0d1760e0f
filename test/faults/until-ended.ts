// Waits until tasks have ended, woken by the queue's own events.
import type { Database } from '../../src/db/open.ts'
import { channels } from '../../src/queue/notify.ts'

export type EndedTask = { id: number; state: string; attempts: number; result: unknown; error: unknown }

/**
 * Resolves with the tasks once each has ended, or is uncertain where that is said to be enough; in the order of their ids.
 * @throws after `timeoutMs`, naming what is left
 */
export async function untilEnded(
  database: Database,
  ids: readonly number[],
  options: { timeoutMs?: number; orUncertain?: boolean } = {}
): Promise<EndedTask[]> {
  const { timeoutMs = 25_000, orUncertain = false } = options
  const deadline = Date.now() + timeoutMs
  let wake = () => {}
  const listening = await database.listen(channels.event, () => wake())
  try {
    for (;;) {
      const heard = new Promise<void>((resolve) => (wake = resolve))
      const open = await database.query<{ id: number; state: string }>(
        'select id, state::text as state from queue.task_state where id = any($1) order by id',
        [ids]
      )
      const left = open.filter(({ state }) => !done.has(state) && !(orUncertain && state === 'uncertain'))
      if (left.length === 0) break
      const waitMs = deadline - Date.now()
      if (waitMs <= 0) {
        const shown = left.slice(0, 10).map(({ id, state }) => `${id} ${state}`)
        throw new Error(
          `${left.length} of ${ids.length} tasks have not ended after ${timeoutMs} ms: ${shown.join(', ')}`
        )
      }
      // Events are looked for as well, in case that the one that mattered was lost: a database may be under fault here.
      let timer: NodeJS.Timeout | undefined
      await Promise.race([heard, new Promise((resolve) => (timer = setTimeout(resolve, Math.min(waitMs, 500))))])
      clearTimeout(timer)
    }
  } finally {
    await listening.stop()
  }
  return database.query<EndedTask>(
    `select s.id, s.state::text as state, s.attempts, t.result, t.error
     from queue.task_state s join queue.task t on t.id = s.id where s.id = any($1) order by s.id`,
    [ids]
  )
}

const done = new Set(['complete', 'failed', 'cancelled'])
