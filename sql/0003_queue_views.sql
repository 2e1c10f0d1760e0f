-- What is derived: the state that clients see, and the literal definition of runnable that the guard poll holds against `ready`.

-- Open tasks with their place. A task has exactly one row here (0009 audits it).
create view queue.place as
  select task, 'wait' as place, attempts, started, priority, position, null::bigint as dispatcher, null::timestamptz as started_at
    from queue.wait
  union all
  select task, 'ready', attempts, started, (-rank)::smallint, position, null, null from queue.ready
  union all
  select task, 'run', attempt, started, priority, position, dispatcher, started_at from queue.run;

-- Of several reasons why a new task is not running the first is shown: held, waiting, scheduled, parked.
create view queue.open_state as
  select w.task,
    case
      when exists (select from queue.held h where h.task = w.task) then 'held'
      when w.unmet > 0 or w.doomed_by is not null then 'waiting'
      when exists (select from queue.scheduled s where s.task = w.task) then 'scheduled'
      when exists (select from queue.parked p where p.task = w.task) then 'parked'
      else 'waiting' -- for a position: about to take its place in the lines
    end::queue.state as state,
    w.attempts, w.position, null::bigint as dispatcher, null::timestamptz as started_at
  from queue.wait w
  union all
  select task, 'ready', attempts, position, null, null from queue.ready
  union all
  select r.task,
    case
      when r.phase = 'uncertain' then r.phase
      when exists (select from queue.cancel_request c where c.task = r.task) then 'cancelling'
      else r.phase
    end,
    r.attempt, r.position, r.dispatcher, r.started_at
  from queue.run r;

create view queue.task_state as
  select t.id, coalesce(t.outcome, o.state) as state,
    coalesce(o.attempts, t.attempts) as attempts, coalesce(o.started_at, t.started_at) as started_at, o.dispatcher, o.position
  from queue.task t left join queue.open_state o on o.task = t.id and t.outcome is null;

-- Literally: new and due, or awaiting with all children ended; not held, not parked, no prerequisite unmet, and not begun.
create view queue.runnable as
  select t.id as task
  from queue.task t
  where t.outcome is null
    and not exists (select from queue.held h where h.task = t.id)
    and not exists (select from queue.parked p where p.task = t.id)
    and not exists (select from queue.scheduled s where s.task = t.id and s.due > queue.now())
    and not exists (
      select from queue.run r
      where r.task = t.id and not (
        r.phase = 'awaiting'
        and exists (select from queue.task c where c.parent = t.id)
        and not exists (select from queue.task c where c.parent = t.id and c.outcome is null)
        and r.dispatcher is null))
    and not exists (
      select from queue.prerequisite p join queue.task b on b.id = p.prerequisite
      where p.task = t.id
        and (b.outcome is null or (p.needs = 'complete' and b.outcome <> 'complete')));

grant select on queue.place, queue.open_state, queue.task_state, queue.runnable to taskomatic_client;
grant execute on function queue.now() to taskomatic_client;
