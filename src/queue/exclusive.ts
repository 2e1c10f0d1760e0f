// Who has claimed things for itself alone: nothing should be put there any more.
import type { Sql } from '../db/open.ts'

export type ExclusiveClaim = {
  /** What follows the prefix. */
  name: string
  task: number
  title: string
}

/** Open exclusive claims on resources of one kind, `host/` for `host/h1`; not on what is below them. The first of each. */
export async function exclusivelyClaimed(db: Sql, prefix: string): Promise<ExclusiveClaim[]> {
  return db.query<ExclusiveClaim>(
    `select substr(r.name, length($1) + 1) as name, c.task, t.title
     from queue.resource r
     cross join lateral (
       select k.task from queue.claim k
       where k.resource = r.id and k.exclusive and k.position is not null order by k.position limit 1) c
     join queue.task t on t.id = c.task
     where r.name >= $1 collate "C" and r.name < ($1 || chr(1114111)) collate "C" and strpos(substr(r.name, length($1) + 1), '/') = 0`,
    [prefix]
  )
}
