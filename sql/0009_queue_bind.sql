-- Late claims: what a task really touches is asked again just before it runs (where it was placed, a disk that was added), and
-- taken before it counts as started. Only started tasks are waited for; what has not started is put behind.

-- 'started'; 'waiting' (with whom for: it is back among the waiting, its attempt is over); 'limited' (the same, parked until it has
-- its units); 'stale'; 'lease_lost'. p_limits: its units become exactly these; null leaves them.
create function queue.bind(
  p_dispatcher bigint, p_task bigint, p_attempt integer, p_names text[], p_exclusive boolean[], p_bound jsonb, p_limits jsonb default null
) returns table (answer text, waits_for bigint[])
  language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set jit = off as $$
#variable_conflict use_column
declare
  t constant timestamptz := queue.now();
  holds constant boolean := queue.lease_holds(p_dispatcher);
  above bigint[];
  others bigint[];
  still_open bigint[];
  mine record;
  blockers bigint[];
  behind_us bigint[];
begin
  waits_for := '{}';
  if not holds then
    answer := 'lease_lost';
    return next;
    return;
  end if;
  -- Beside other bindings, not beside an expansion: that decides whom to wait for by who has started.
  perform pg_advisory_xact_lock_shared(7243003);
  perform queue.take_resources(p_names, p_exclusive);
  above := queue.ancestors(p_task);
  select array_agg(distinct k.task) into others
  from unnest(p_names, p_exclusive) as c(name, exclusive)
  join queue.resource r on r.name = c.name collate "C"
  cross join lateral (
    select x.task, x.position from queue.claim x where c.exclusive and x.resource = r.id
    -- Who shares is not held up by who shares: of thousands on one store none is read.
    union all select x.task, x.position from queue.claim x where not c.exclusive and x.resource = r.id and x.exclusive and not x.own
    union all select x.task, x.position from queue.claim x where not c.exclusive and x.resource = r.id and x.exclusive and x.own
  ) k
  where k.task <> all (above) and k.position is not null;
  still_open := queue.lock_tasks(array[p_task], others);

  select r.*, x.binds into mine from queue.run r join queue.task x on x.id = r.task
    where r.task = p_task and r.attempt = p_attempt and r.dispatcher = p_dispatcher and r.phase = 'running';
  if not found or p_task <> all (still_open) then
    insert into queue.stale_report (at, dispatcher, task, attempt, said) values (t, p_dispatcher, p_task, p_attempt, 'bind');
    answer := 'stale';
    return next;
    return;
  end if;
  if not mine.binds then
    perform queue.refuse('not_binding', format('task %s was submitted without `binds`', p_task), array[p_task]);
  end if;

  -- Its claims become exactly these. Those that it had keep their place in the line, new ones are waited for pair by pair.
  delete from queue.claim k where k.task = p_task and not exists (
    select from unnest(p_names) as c(name) join queue.resource r on r.name = c.name collate "C" where r.id = k.resource);
  insert into queue.claim as k (task, resource, position, exclusive, own)
  select p_task, r.id, mine.position, bool_or(c.exclusive), true
  from unnest(p_names, p_exclusive) as c(name, exclusive) join queue.resource r on r.name = c.name collate "C" group by r.id
  on conflict (task, resource) do update set exclusive = excluded.exclusive, own = k.own or k.exclusive <> excluded.exclusive;
  perform queue.keep_bound(p_task, p_attempt, p_bound, coalesce((
    select jsonb_agg(jsonb_build_object(
      'resource', c.name, 'mode', case when c.exclusive then 'exclusive' else 'shared' end) order by c.name)
    from unnest(p_names, p_exclusive) as c(name, exclusive)), '[]'), t);

  -- Who conflicts and has not started goes behind us: out of the reach of claims first, so that it stays so.
  perform from queue.wait where task = any (others) order by task for update;
  perform queue.make_wait(array(select o from unnest(others) as o where o = any (still_open)));
  select array_agg(o) into blockers from unnest(others) as o
    where o = any (still_open) and (
      exists (select from queue.run r where r.task = o and r.started)
      or exists (select from queue.wait w where w.task = o and w.started));
  select array_agg(o) into behind_us from unnest(others) as o
    where o = any (still_open) and exists (select from queue.wait w where w.task = o and not w.started);

  if blockers is null and (p_limits is null or queue.exchange_units(p_task, p_limits, -mine.priority, mine.position)) then
    update queue.run r set started = true, started_at = queue.now() where r.task = p_task;
    insert into queue.prerequisite (task, prerequisite, needs, derived)
    select o, p_task, 'ended', true from unnest(behind_us) as o on conflict do nothing;
    perform queue.recount(behind_us);
    -- The others as well: whoever granted units passed over those whose rows we hold.
    if queue.make_ready(others) > 0 then
      perform queue.wake();
    end if;
    answer := 'started';
    return next;
    return;
  end if;

  -- What was decided holds for an attempt that starts: this one promises nothing of the next.
  update queue.bound b set bound = b.bound || '{"tentative": true}' where b.task = p_task;
  -- Not free. A started leaf waits for nothing; a parent may wait, through its children, for us.
  if exists (select from queue.family f where f.parent = any (blockers) and f.open > 0) then
    perform pg_advisory_xact_lock(7243004); -- two that check at once would not see each other
    if p_task = any (queue.reached_from(blockers)) then
      perform queue.refuse('circle', format('task %s would wait for itself, through tasks %s', p_task,
        array_to_string(queue.way(blockers, p_task), ', ')), queue.way(blockers, p_task));
    end if;
  end if;
  insert into queue.attempt (task, attempt, dispatcher, started_at, ended_at, outcome, error)
    values (p_task, p_attempt, p_dispatcher, mine.started_at, t, case when blockers is null then 'parked' else 'waiting' end,
      case when blockers is null then jsonb_build_object('code', 'limit_reached', 'message', 'a limit that it needs units of is reached')
      else jsonb_build_object('code', 'claims_not_free',
        'message', 'what it was about to touch is not free', 'details', jsonb_build_object('tasks', to_jsonb(blockers))) end);
  delete from queue.run where task = p_task;
  insert into queue.wait (task, unmet, attempts, started, limited, priority, position, doomed_by)
  values (p_task, 0, p_attempt, false, exists (select from queue.cost c where c.task = p_task), mine.priority, mine.position,
    case when exists (select from queue.cancel_request c where c.task = p_task) then p_task end);
  perform queue.give_back(array[p_task]);
  insert into queue.prerequisite (task, prerequisite, needs, derived)
  select p_task, b, 'ended', true from unnest(blockers) as b on conflict do nothing;
  perform queue.recount(array[p_task] || behind_us);
  -- What has started and was ready is so again, and what is limited asks again: we too, where only units are lacking.
  if queue.make_ready(case when blockers is null then array[p_task] || others else others end) > 0 then
    perform queue.wake();
  end if;
  perform queue.tell(p_changed => array[p_task]);
  answer := case when blockers is null then 'limited' else 'waiting' end;
  waits_for := coalesce(blockers, '{}');
  return next;
end
$$;

-- Many at once, for tasks that nothing keeps from starting: nobody else has claimed what they claim, their units are those that they
-- have. [{task, attempt, bound, claims: [{resource, mode}], limits, undo}]; `undo`, if any, is kept as the step that undoes it. Answers for
-- each 'started', or 'alone': that one is to be asked for by itself (bind), and nothing was done for it. No row: the lease is lost.
create function queue.bind_many(p_dispatcher bigint, p_binds jsonb) returns table (task bigint, answer text)
  language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set jit = off as $$
#variable_conflict use_column
declare
  t constant timestamptz := queue.now();
  tasks bigint[]; names text[]; exclusives boolean[]; -- a row a claim
  fit bigint[];
  still_open bigint[];
begin
  if not queue.lease_holds(p_dispatcher) then
    return;
  end if;
  -- Beside other bindings, not beside an expansion: that decides whom to wait for by who has started.
  perform pg_advisory_xact_lock_shared(7243003);
  select array_agg(c.task), array_agg(c.resource), array_agg(c.exclusive) into tasks, names, exclusives from (
    select b.task, l.resource, bool_or(l.mode = 'exclusive') as exclusive
    from jsonb_to_recordset(p_binds) as b(task bigint, claims jsonb)
    cross join lateral jsonb_to_recordset(b.claims) as l(resource text, mode text) group by 1, 2) c;
  -- Names that are new are made by whoever asks alone.
  with claimed as (
    select c.task, c.exclusive, c.name, r.id from unnest(tasks, names, exclusives) as c(task, name, exclusive)
    left join queue.resource r on r.name = c.name collate "C"
  )
  select array_agg(b.task) into fit from jsonb_to_recordset(p_binds) as b(task bigint)
  where b.task not in (select c.task from claimed c where c.id is null)
    -- Two of these that exclude each other.
    and b.task not in (
      select c.task from claimed c join (select d.name from claimed d group by d.name having count(*) > 1 and bool_or(d.exclusive)) both_want
        on both_want.name = c.name);
  select array_agg(c.task), array_agg(c.name), array_agg(c.exclusive) into tasks, names, exclusives
  from unnest(tasks, names, exclusives) as c(task, name, exclusive) where c.task = any (fit);
  perform queue.lock_resources(names, exclusives);
  -- In a later statement than the locks: who has them committed before.
  with claimed as (
    select c.task, c.exclusive, r.id from unnest(tasks, names, exclusives) as c(task, name, exclusive)
    join queue.resource r on r.name = c.name collate "C"
  )
  select array_agg(f) into fit from unnest(fit) as f
  where f not in (
      select c.task from claimed c where c.exclusive and exists (
        select from queue.claim k where k.resource = c.id and k.task <> c.task and k.position is not null))
    -- Who shares is not held up by who shares: of thousands on one store none is read.
    and f not in (
      select c.task from claimed c where not c.exclusive and (
        exists (select from queue.claim k where k.resource = c.id and k.exclusive and not k.own and k.task <> c.task and k.position is not null)
        or exists (select from queue.claim k where k.resource = c.id and k.exclusive and k.own and k.task <> c.task and k.position is not null)))
    and f not in (
      select coalesce(had.task, needs.task)
      from (
        select b.task, l.key, sum(l.units)::integer as units from jsonb_to_recordset(p_binds) as b(task bigint, limits jsonb)
        cross join lateral jsonb_to_recordset(b.limits) as l(key text, units integer)
        where jsonb_typeof(b.limits) = 'array' group by 1, 2) needs
      full join (
        select c.task, c.key, c.units, c.granted from queue.cost c where c.task in (
          select b.task from jsonb_to_recordset(p_binds) as b(task bigint, limits jsonb) where jsonb_typeof(b.limits) = 'array')) had
        on had.task = needs.task and had.key = needs.key and had.units = needs.units
      where had.task is null or needs.task is null or not had.granted);
  still_open := queue.lock_tasks(fit, '{}');
  select array_agg(r.task) into fit
  from jsonb_to_recordset(p_binds) as b(task bigint, attempt integer)
  join queue.run r on r.task = b.task and r.attempt = b.attempt and r.dispatcher = p_dispatcher and r.phase = 'running'
  join queue.task x on x.id = r.task and x.binds
  where b.task = any (still_open);

  if fit is not null then
    delete from queue.claim k where k.task = any (fit) and not exists (
      select from unnest(tasks, names) as c(task, name) join queue.resource r on r.name = c.name collate "C"
      where c.task = k.task and r.id = k.resource);
    insert into queue.claim as k (task, resource, position, exclusive, own)
    select c.task, r.id, q.position, c.exclusive, true
    from unnest(tasks, names, exclusives) as c(task, name, exclusive)
    join queue.resource r on r.name = c.name collate "C" join queue.run q on q.task = c.task
    where c.task = any (fit)
    on conflict (task, resource) do update set exclusive = excluded.exclusive, own = true where k.exclusive <> excluded.exclusive;
    insert into queue.bound as o (task, attempt, bound, claims, at)
    select b.task, b.attempt, case when jsonb_typeof(b.bound) = 'object' then b.bound end, b.claims, t
    from jsonb_to_recordset(p_binds) as b(task bigint, attempt integer, bound jsonb, claims jsonb) where b.task = any (fit)
    on conflict (task) do update set attempt = excluded.attempt, bound = excluded.bound, claims = excluded.claims, at = excluded.at;
    insert into queue.undo_step (task, attempt, step, at)
    select b.task, b.attempt, b.undo, t from jsonb_to_recordset(p_binds) as b(task bigint, attempt integer, undo jsonb)
    where b.task = any (fit) and jsonb_typeof(b.undo) = 'object'
    on conflict (task) do nothing;
    update queue.run r set started = true, started_at = queue.now() where r.task = any (fit);
  end if;
  return query
    select b.task, case when b.task = any (fit) then 'started' else 'alone' end from jsonb_to_recordset(p_binds) as b(task bigint);
end
$$;

-- What an attempt was bound to, or why to nothing.
create function queue.keep_bound(p_task bigint, p_attempt integer, p_bound jsonb, p_claims jsonb, p_at timestamptz) returns void
  language sql set search_path = pg_catalog, pg_temp as $$
  insert into queue.bound as b (task, attempt, bound, claims, at) values (p_task, p_attempt, p_bound, p_claims, p_at)
  on conflict (task) do update set attempt = excluded.attempt, bound = excluded.bound, claims = excluded.claims, at = excluded.at
$$;

-- For an attempt that is about to be parked since nothing can be bound: what was considered stays with the task. Its claims stay too.
create function queue.note_unbound(p_dispatcher bigint, p_task bigint, p_attempt integer, p_about jsonb) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if not queue.lease_holds(p_dispatcher) or not exists (
    select from queue.run r where r.task = p_task and r.attempt = p_attempt and r.dispatcher = p_dispatcher) then
    return false;
  end if;
  insert into queue.bound as b (task, attempt, bound, claims, at)
  select t.id, p_attempt, p_about, t.claims, queue.now() from queue.task t where t.id = p_task
  on conflict (task) do update set attempt = excluded.attempt, bound = excluded.bound, at = excluded.at;
  return true;
end
$$;

-- As lock_resources, for a few names of which some may be new: made in their place in the order of names.
create function queue.take_resources(p_names text[], p_exclusive boolean[]) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  wanted record;
begin
  if not exists (
    select from unnest(p_names) as w(name)
    where not exists (select from queue.resource r where r.name = w.name collate "C")) then
    perform queue.lock_resources(p_names, p_exclusive);
    return;
  end if;
  for wanted in
    select u.name collate "C" as name, bool_or(u.exclusive) as exclusive
    from unnest(p_names, p_exclusive) as u(name, exclusive) group by 1 order by 1
  loop
    insert into queue.resource (name) values (wanted.name) on conflict (name) do nothing;
    perform queue.lock_resources(array[wanted.name], array[wanted.exclusive]);
  end loop;
end
$$;

-- Whether a run's task has nobody who looks after it: its dispatcher has no lease, its deadline has passed, or the caller, whose it is,
-- holds other attempts (and says which).
create function queue.is_orphan(r queue.run, p_at timestamptz, p_dispatcher bigint, p_tasks bigint[], p_attempts integer[]) returns boolean
  language sql stable set search_path = pg_catalog, pg_temp as $$
  select case r.phase
    when 'running' then
      case when r.dispatcher = p_dispatcher then p_tasks is not null and not exists (
          select from unnest(p_tasks, p_attempts) as h(task, attempt) where h.task = r.task and h.attempt = r.attempt)
        else not exists (select from queue.dispatcher d where d.id = r.dispatcher) end
    when 'awaiting' then coalesce(r.deadline < p_at, false)
    else false end
$$;

-- Hands out what nobody looks after (is_orphan). Leases that have run out are reaped first: whoever is in the middle of a step is
-- waited for, and finds no lease afterwards.
create function queue.take_over(
    p_dispatcher bigint, p_limit integer, p_tasks bigint[] default null, p_attempts integer[] default null) returns table (
  task bigint, attempt integer, action text, title text, args jsonb, plan bigint, parent bigint, priority smallint,
  binds boolean, bound jsonb, by text, children jsonb
) language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  t constant timestamptz := queue.now();
  taken bigint[];
begin
  if not queue.lease_holds(p_dispatcher) then
    perform queue.refuse('lease_lost', format('the lease of dispatcher %s has run out', p_dispatcher));
  end if;
  delete from queue.dispatcher d where d.id in (
    select id from queue.dispatcher where expires_at < t and id <> p_dispatcher order by id for update skip locked);
  taken := array(
    select r.task from queue.run r where queue.is_orphan(r, t, p_dispatcher, p_tasks, p_attempts) order by r.task limit p_limit);
  if cardinality(taken) = 0 then
    return;
  end if;
  perform from queue.task where id = any (taken) and outcome is null order by id for update;
  with orphan as (
    select r.task from queue.run r
    where r.task = any (taken) and queue.is_orphan(r, t, p_dispatcher, p_tasks, p_attempts)
  ), before as (
    insert into queue.attempt (task, attempt, dispatcher, started_at, ended_at, outcome, error)
    select r.task, r.attempt, r.dispatcher, r.started_at, t, 'lost',
      jsonb_build_object('code', 'taken_over', 'message', case when r.dispatcher = p_dispatcher and r.phase = 'running'
        then 'its dispatcher had not heard that it was to run it' else 'its dispatcher is gone, or its deadline has passed' end)
    from queue.run r join orphan o on o.task = r.task
  ), over as (
    update queue.run r set attempt = r.attempt + 1, dispatcher = p_dispatcher, phase = 'running', started_at = t,
      deadline = null, awaiting = null
    from orphan o where r.task = o.task returning r.task
  )
  select array_agg(task) into taken from over;
  if taken is null then
    return;
  end if;
  perform queue.tell(p_changed => taken);
  return query
    select x.id, r.attempt, x.action, x.title, x.args, x.plan, x.parent, x.priority, x.binds,
      (select b.bound from queue.bound b where b.task = x.id), x.created_by,
      case when exists (select from queue.family f where f.parent = x.id) then queue.children_of(x.id) end
    from queue.run r join queue.task x on x.id = r.task where r.task = any (taken) order by r.position, x.id;
end
$$;

grant execute on function
  queue.bind(bigint, bigint, integer, text[], boolean[], jsonb, jsonb), queue.bind_many(bigint, jsonb),
  queue.note_unbound(bigint, bigint, integer, jsonb), queue.take_over(bigint, integer, bigint[], integer[])
  to taskomatic_client;
