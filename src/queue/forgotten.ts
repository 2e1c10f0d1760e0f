// Tasks in progress that nobody looks after although somebody should have taken them over: a fault of ours, to be shouted about.
import type { Sql } from '../db/open.ts'

export type ForgottenTask = { task: number; title: string; why: 'lease_over' | 'deadline_over'; since: Date }

/** Running tasks whose dispatcher's lease ended, and awaited ones whose deadline passed, more than `graceMs` ago. At most 100. */
export async function forgottenTasks(db: Sql, graceMs: number): Promise<ForgottenTask[]> {
  return db.query<ForgottenTask>(
    `select r.task, t.title, case r.phase when 'running' then 'lease_over' else 'deadline_over' end as why,
       coalesce(case r.phase when 'running' then d.expires_at else r.deadline end, r.started_at) as since
     from queue.run r join queue.task t on t.id = r.task left join queue.dispatcher d on d.id = r.dispatcher
     where case r.phase
       when 'running' then coalesce(d.expires_at, r.started_at) < queue.now() - make_interval(secs => $1 / 1000.0)
       when 'awaiting' then r.deadline < queue.now() - make_interval(secs => $1 / 1000.0)
       else false end
     order by r.task limit 100`,
    [graceMs]
  )
}
