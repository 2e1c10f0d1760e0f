-- Submitting: tasks, their claims and effects, the edges that follow, and what of it is ready, in the caller's transaction.
-- Resources are locked first, ids are drawn under those locks: so along each line ids ascend in the order of commits.

create function queue.submit(
  p_tasks jsonb, p_plan jsonb, p_by text, p_reason text, p_key text, p_fingerprint text
) returns table (plan bigint, tasks bigint[], replayed boolean)
  language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan set jit = off as $$
#variable_conflict use_column
declare
  n constant integer := jsonb_array_length(p_tasks);
  t constant timestamptz := queue.now();
  earlier record;
  new_plan bigint;
  ids bigint[];
  -- claims of the new tasks; those of unplaced ones have no position
  c_task bigint[]; c_name text[]; c_exclusive boolean[]; c_resource integer[];
  f_task bigint[]; f_exclusive boolean[]; f_resource integer[];
  -- explicit edges
  x_task bigint[]; x_prerequisite bigint[]; x_needs queue.needs[];
  -- derived edges
  d_task bigint[]; d_prerequisite bigint[];
  unplaced bigint[] := '{}';
  still_open bigint[];
  bad record;
  made integer;
begin
  if n <= 10 then
    perform set_config('plan_cache_mode', 'force_generic_plan', true); -- until the function returns
  end if;
  if n < 1 or n > 100000 then
    perform queue.refuse('too_many_tasks', format('a submission has 1 to 100,000 tasks, not %s', n));
  end if;

  if p_key is not null then
    -- A second one with this key waits here for the first.
    insert into queue.idempotency (key, fingerprint, tasks, at) values (p_key, p_fingerprint, '{}', t) on conflict (key) do nothing;
    if not found then
      select * into earlier from queue.idempotency where key = p_key;
      if earlier.fingerprint <> p_fingerprint then
        perform queue.refuse('idempotency_mismatch', format('key %s was used for another submission', p_key), earlier.tasks);
      end if;
      return query select earlier.plan, earlier.tasks, true;
      return;
    end if;
  end if;

  -- Claims: of two of one task on one resource the stronger. Locked by name before any id is drawn.
  select array_agg(c.index), array_agg(c.resource), array_agg(c.exclusive) into c_task, c_name, c_exclusive
  from (
    select e.index, c.resource, bool_or(c.mode = 'exclusive') as exclusive
    from jsonb_array_elements(p_tasks) with ordinality as e(task, index)
    cross join lateral jsonb_to_recordset(e.task -> 'claims') as c(resource text, mode text)
    group by e.index, c.resource
  ) c;
  if c_name is not null then
    perform queue.lock_resources(c_name, c_exclusive);
  end if;
  if p_plan is not null then
    new_plan := nextval('queue.position');
    insert into queue.plan (id, name, on_failure, created_by, reason, created_at, tasks)
    values (new_plan, p_plan ->> 'name', (p_plan ->> 'onFailure')::queue.on_failure, p_by, p_reason, t, n);
  end if;
  select array_agg(nextval('queue.position')) into ids from generate_series(1, n);

  if c_name is not null then
    select array_agg(ids[c.index]), array_agg(r.id), array_agg(c.exclusive) into c_task, c_resource, c_exclusive
    from unnest(c_task, c_name, c_exclusive) as c(index, name, exclusive)
    join queue.resource r on r.name = c.name collate "C";
  end if;

  -- Explicit edges, to earlier elements or to stored tasks.
  select array_agg(ids[a.index]), array_agg(a.prerequisite), array_agg(a.needs) into x_task, x_prerequisite, x_needs
  from (
    select e.index, coalesce(a.task, ids[a.element + 1]) as prerequisite, a.needs,
      a.task, a.task is null and (a.element is null or a.element < 0 or a.element >= e.index - 1) as later
    from jsonb_array_elements(p_tasks) with ordinality as e(task, index)
    cross join lateral jsonb_to_recordset(e.task -> 'after') as a(task bigint, element integer, needs queue.needs)
    where e.task ? 'after'
  ) a
  -- A bad reference is refused here, since the aggregate above must not see it.
  where case
    when a.later then queue.refuse('later_position', format('element %s may only come after earlier elements of its plan', a.index - 1))
    when a.task >= ids[1] then queue.refuse('task_not_found', format('task %s not found', a.task), array[a.task])
    else true end;

  -- Who is not due or held, and who needs one that has no position, gets none itself until then.
  if exists (select from jsonb_array_elements(p_tasks) as e(task) where e.task ? 'hold' or e.task ? 'notBefore')
    or exists (select from queue.wait w where w.task = any (x_prerequisite) and w.position is null) then
    with recursive late as (
      select ids[e.index] as task from jsonb_array_elements(p_tasks) with ordinality as e(task, index)
      where e.task ? 'hold' or (e.task ->> 'notBefore')::timestamptz > t
      union
      select x.task from unnest(x_task, x_prerequisite) as x(task, prerequisite)
      join queue.wait w on w.task = x.prerequisite and w.position is null
      union
      select x.task from late join unnest(x_task, x_prerequisite) as x(task, prerequisite) on x.prerequisite = late.task
    )
    select coalesce(array_agg(task), '{}') into unplaced from late;
  end if;

  select array_agg(c.task), array_agg(c.resource), array_agg(c.exclusive) into f_task, f_resource, f_exclusive
  from unnest(c_task, c_resource, c_exclusive) as c(task, resource, exclusive)
  where c.task <> all (unplaced);
  if f_task is not null then
    select array_agg(e.task), array_agg(e.prerequisite) into d_task, d_prerequisite
    from (
      select * from queue.line_edges(f_resource, f_task, f_task, f_exclusive, null)
      union
      select * from queue.own_edges(f_resource, f_task, f_exclusive)
    ) e;
  end if;

  -- Predecessors that were there before: locked, and read again now that those that were just ending have ended.
  if x_task is not null or d_task is not null then
    still_open := queue.lock_tasks('{}', (
      select array_agg(distinct p) from unnest(x_prerequisite || d_prerequisite) as u(p) where p < ids[1]));
  end if;
  if x_task is not null then
    select x.prerequisite, b.id, b.outcome into bad
    from unnest(x_task, x_prerequisite, x_needs) as x(task, prerequisite, needs)
    left join queue.task b on b.id = x.prerequisite
    where x.prerequisite < ids[1] and (b.id is null or (x.needs = 'complete' and b.outcome <> 'complete'))
    limit 1;
    if found and bad.id is null then
      perform queue.refuse('task_not_found', format('task %s not found', bad.prerequisite), array[bad.prerequisite]);
    elsif found then
      perform queue.refuse('prerequisite_ended_badly',
        format('task %s is needed, but it is %s', bad.prerequisite, bad.outcome), array[bad.prerequisite]);
    end if;
    if exists (
      select from unnest(x_task, x_prerequisite) as x(task, prerequisite)
      join queue.wait w on w.task = x.prerequisite and w.position is null
      where x.task <> all (unplaced)) then
      -- Held between our look and our lock.
      raise exception using errcode = '40001', message = 'a prerequisite was held in the same moment';
    end if;
  end if;

  insert into queue.task (
    id, action, title, args, claims, effects, limits, undo, plan, priority, not_before, binds, created_by, reason, created_at)
  select ids[e.index], e.task ->> 'action', e.task ->> 'title', e.task -> 'args', e.task -> 'claims', e.task -> 'effects',
    e.task -> 'limits', e.task -> 'undo', new_plan, coalesce((e.task ->> 'priority')::smallint, 0),
    (e.task ->> 'notBefore')::timestamptz, (e.task ->> 'binds')::boolean, p_by, p_reason, t
  from jsonb_array_elements(p_tasks) with ordinality as e(task, index);

  insert into queue.claim (task, resource, position, exclusive)
  select c.task, c.resource, case when c.task <> all (unplaced) then c.task end, c.exclusive
  from unnest(c_task, c_resource, c_exclusive) as c(task, resource, exclusive);

  insert into queue.effect (task, ordinal, subject)
  select ids[e.index], f.ordinal - 1, f.effect ->> 'subject'
  from jsonb_array_elements(p_tasks) with ordinality as e(task, index)
  cross join lateral jsonb_array_elements(e.task -> 'effects') with ordinality as f(effect, ordinal);

  insert into queue.cost (task, key, units, rank)
  select ids[e.index], l.key, sum(l.units), -coalesce((e.task ->> 'priority')::smallint, 0)
  from jsonb_array_elements(p_tasks) with ordinality as e(task, index)
  cross join lateral jsonb_to_recordset(e.task -> 'limits') as l(key text, units integer)
  where e.task ? 'limits'
  group by e.index, l.key, e.task;

  insert into queue.held (task, reason, held_by, since)
  select ids[e.index], e.task #>> '{hold,reason}', p_by, t
  from jsonb_array_elements(p_tasks) with ordinality as e(task, index) where e.task ? 'hold';

  insert into queue.scheduled (task, due)
  select ids[e.index], (e.task ->> 'notBefore')::timestamptz
  from jsonb_array_elements(p_tasks) with ordinality as e(task, index) where (e.task ->> 'notBefore')::timestamptz > t;

  -- An edge that was asked for stands for a derived one as well. Edges to what has ended are kept out: they hold nothing up.
  insert into queue.prerequisite (task, prerequisite, needs, derived)
  select x.task, x.prerequisite, min(x.needs), bool_and(x.derived)
  from (
    select task, prerequisite, needs, false from unnest(x_task, x_prerequisite, x_needs) as x(task, prerequisite, needs)
    union all
    select task, prerequisite, 'ended', true from unnest(d_task, d_prerequisite) as d(task, prerequisite)
  ) as x(task, prerequisite, needs, derived)
  where x.prerequisite >= ids[1] or x.prerequisite = any (still_open) or not x.derived
  group by x.task, x.prerequisite;

  -- Into ready or wait.
  with counted as (
    select i.id, i.index,
      coalesce(e.unmet, 0) as unmet, coalesce(e.behind, 0) as behind
    from unnest(ids) with ordinality as i(id, index)
    left join (
      select p.task, count(*) filter (where p.prerequisite >= ids[1] or p.prerequisite = any (still_open)) as unmet,
        count(*) filter (where cardinality(unplaced) > 0 and (p.prerequisite = any (unplaced)
          or exists (select from queue.wait w where w.task = p.prerequisite and w.position is null))) as behind
      from queue.prerequisite p where p.task = any (ids) group by p.task
    ) e on e.task = i.id
  ), new as (
    select c.*, t.priority,
      (case when h.task is null then 0 else 1 end + case when s.task is null then 0 else 1 end) as barred,
      t.limits is not null and jsonb_array_length(t.limits) > 0 as limited
    from counted c join queue.task t on t.id = c.id
    left join queue.held h on h.task = c.id left join queue.scheduled s on s.task = c.id
    where t.id = any (ids)
  ), ready as (
    insert into queue.ready (task, rank, position, attempts, started, since)
    select id, -priority, id, 0, false, t from new
    where unmet = 0 and barred = 0 and not limited and id <> all (unplaced)
    returning 1
  ), waiting as (
    insert into queue.wait (task, unmet, barred, behind, limited, priority, position)
    select id, unmet, barred, behind, limited, priority, case when id <> all (unplaced) then id end from new
    where not (unmet = 0 and barred = 0 and not limited and id <> all (unplaced))
    returning task, unmet = 0 and barred = 0 and limited and position is not null as queues
  )
  select (select count(*) from ready), array_agg(task) filter (where queues) into made, d_task from waiting;
  if d_task is not null then
    made := made + queue.queue_for_units(d_task);
  end if;

  if p_key is not null then
    update queue.idempotency set plan = new_plan, tasks = ids where key = p_key;
  end if;
  perform queue.tell(p_submitted => ids);
  if made > 0 then
    perform queue.wake();
  end if;
  return query select new_plan, ids, false;
end
$$;

-- What the open tasks will bring about, in the order of their positions. A task without a position takes part only from then on.
create function queue.open_effects(p_subjects text[])
  returns table (task bigint, action text, title text, subject text, facts jsonb)
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select e.task, t.action, t.title, e.subject, nullif(t.effects -> e.ordinal -> 'facts', 'null')
  from queue.effect e
  join queue.task t on t.id = e.task
  join queue.place p on p.task = e.task
  where e.subject = any (p_subjects) and p.position is not null
  order by coalesce(t.path, array[p.position]), e.ordinal
$$;

grant execute on function
  queue.submit(jsonb, jsonb, text, text, text, text),
  queue.open_effects(text[])
  to taskomatic_client;
