-- A dispatcher's round trip: ends of tasks are recorded with everything that follows from them, then what is ready is claimed.

create function queue.register_dispatcher(p_name text, p_lease_ms integer) returns bigint
  language sql security definer set search_path = pg_catalog, pg_temp as $$
  insert into queue.dispatcher (name, lease_ms, registered_at, expires_at)
  values (p_name, p_lease_ms, queue.now(), queue.now() + make_interval(secs => p_lease_ms / 1000.0)) returning id
$$;

-- A lease that has run out is not revived, even if nobody has noticed yet: a new registration is a new dispatcher.
create function queue.beat(p_dispatcher bigint) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  update queue.dispatcher set expires_at = queue.now() + make_interval(secs => lease_ms / 1000.0)
    where id = p_dispatcher and expires_at > queue.now();
  return found;
end
$$;

create function queue.unregister_dispatcher(p_dispatcher bigint) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  delete from queue.dispatcher where id = p_dispatcher;
  if not found then
    return false;
  end if;
  -- Others need not wait for a lease to run out.
  if exists (select from queue.run where dispatcher = p_dispatcher and phase = 'running') then
    perform pg_notify('queue_left', '');
  end if;
  return true;
end
$$;

-- Every step of a dispatcher proves its lease in its own transaction. Beats do not conflict with this lock; reaping, which
-- deletes the row, waits for the step, or the step finds no row.
create function queue.lease_holds(p_dispatcher bigint) returns boolean
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform from queue.dispatcher where id = p_dispatcher and expires_at > queue.now() for key share;
  return found;
end
$$;

-- What is written on behalf of an attempt beside its end proves, in its own transaction, that the attempt is still the task's, and while
-- it runs its dispatcher's lease.
create function queue.attempt_holds(p_task bigint, p_attempt integer) returns boolean
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform from queue.run where task = p_task and attempt = p_attempt and phase <> 'running';
  if found then
    return true;
  end if;
  perform from queue.run r join queue.dispatcher d on d.id = r.dispatcher
    where r.task = p_task and r.attempt = p_attempt and d.expires_at > queue.now() for key share of d;
  return found;
end
$$;

-- Raises lease_lost where that dispatcher has no lease: for what a task does to other tables than these, in the same transaction.
create function queue.prove_lease(p_dispatcher bigint) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if not queue.lease_holds(p_dispatcher) then
    perform queue.refuse('lease_lost', format('the lease of dispatcher %s has run out', p_dispatcher));
  end if;
end
$$;

-- What follows from ends, in the ends' own transaction: their claims vanish, their units are free, dependants count down or are
-- doomed, parents whose last child this was are ready again. Called after the tasks' rows were locked and updated, as a later
-- statement: edges of submissions that we had to wait for are seen.
create function queue.after_ends(p_good bigint[], p_bad bigint[]) returns integer
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  all_ended constant bigint[] := p_good || p_bad;
  dependants bigint[];
  lowered integer[];
  doomed bigint[];
  parents bigint[];
  made integer := 0;
begin
  delete from queue.claim where task = any (all_ended);
  delete from queue.effect where task = any (all_ended);
  delete from queue.cancel_request where task = any (all_ended);

  select array_agg(distinct p.task) into dependants from queue.prerequisite p where p.prerequisite = any (all_ended);
  if dependants is not null then
    perform from queue.wait where task = any (dependants) order by task for update;
    -- In a later statement than that lock: who held a row may have taken edges away and counted without them.
    select array_agg(d.task), array_agg(d.lowers), array_agg(d.doomed_by) into dependants, lowered, doomed
    from (
      select p.task, count(*) filter (where p.needs = 'ended' or p.prerequisite = any (p_good)) as lowers,
        min(p.prerequisite) filter (where p.needs = 'complete' and p.prerequisite = any (p_bad)) as doomed_by
      from queue.prerequisite p where p.prerequisite = any (all_ended)
      group by p.task
    ) d;
  end if;
  if dependants is not null then
    update queue.wait w set unmet = w.unmet - d.lowers, doomed_by = coalesce(w.doomed_by, d.doomed_by)
    from unnest(dependants, lowered, doomed) as d(task, lowers, doomed_by)
    where w.task = d.task;
  end if;

  -- Families before units: making ready may lock the limits.
  select array_agg(f.parent), array_agg(f.ended) into parents, lowered
  from (
    select parent, count(*) as ended from queue.task where id = any (all_ended) and parent is not null group by parent
  ) f;
  if parents is not null then
    made := made + queue.children_ended(parents, lowered);
  end if;
  if dependants is not null then
    made := made + queue.make_ready(dependants);
  end if;

  perform queue.give_back(all_ended);
  return made;
end
$$;

create function queue.children_ended(p_parents bigint[], p_ended integer[]) returns integer
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  done bigint[];
begin
  perform from queue.family where parent = any (p_parents) order by parent for update;
  with counted as (
    update queue.family f set open = f.open - e.ended
    from unnest(p_parents, p_ended) as e(parent, ended) where f.parent = e.parent
    returning f.parent, f.open
  )
  select array_agg(parent) into done from counted where open = 0;
  return case when done is null then 0 else queue.resume_parents(done) end;
end
$$;

-- A parent whose children have ended is ready again: whoever claims it hears what became of them.
create function queue.resume_parents(p_parents bigint[]) returns integer
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  made integer;
begin
  with back as (
    delete from queue.run where task = any (p_parents) and phase = 'awaiting' and dispatcher is null
    returning task, attempt, priority, position
  ), waiting as (
    insert into queue.wait (task, unmet, attempts, started, limited, priority, position)
    select b.task, 0, b.attempt, true, exists (select from queue.cost c where c.task = b.task), b.priority, b.position
    from back b returning task
  )
  select array_agg(task) into p_parents from waiting;
  made := queue.make_ready(p_parents);
  return made;
end
$$;

-- Ends that do not end the task: it is tried again later, parked, awaits something, or nobody can tell.
create function queue.settle_others(p_dispatcher bigint, p_ends jsonb, p_at timestamptz) returns bigint[]
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  back bigint[];
  stay bigint[];
begin
  with ends as (
    select e.* from jsonb_to_recordset(p_ends) as e(
      task bigint, attempt integer, outcome text, "afterMs" float8, reason text, key text, error jsonb)
    where e.outcome in ('retry', 'park')
  ), gone as (
    delete from queue.run r using ends e
    where r.task = e.task and r.attempt = e.attempt and r.dispatcher is not null
      and (r.dispatcher = p_dispatcher or r.phase <> 'running')
    returning r.task, r.attempt, r.dispatcher, r.started, r.started_at, r.priority, r.position, e.outcome, e."afterMs", e.reason, e.key, e.error
  ), kept as (
    insert into queue.attempt (task, attempt, dispatcher, started_at, ended_at, outcome, error)
    select task, attempt, dispatcher, started_at, p_at, case outcome when 'park' then 'parked' else 'retry' end,
      coalesce(error, jsonb_build_object('code', 'parked', 'message', reason))
    from gone
  ), waiting as (
    insert into queue.wait (task, unmet, barred, attempts, started, limited, priority, position)
    select g.task, 0, 1, g.attempt, g.started, exists (select from queue.cost c where c.task = g.task), g.priority, g.position
    from gone g
  ), later as (
    insert into queue.scheduled (task, due)
    select task, p_at + make_interval(secs => greatest("afterMs", 0) / 1000.0) from gone where outcome = 'retry'
  ), aside as (
    insert into queue.parked (task, key, reason, since) select task, key, reason, p_at from gone where outcome = 'park'
  )
  select coalesce(array_agg(task), '{}') into back from gone;
  perform queue.give_back(back);

  with stays as (
    update queue.run r set
      phase = e.outcome::queue.state, awaiting = e.what, error = e.error, evidence = e.evidence,
      deadline = case when e.outcome = 'awaiting' then p_at + make_interval(secs => e."deadlineMs" / 1000.0) end
    from jsonb_to_recordset(p_ends) as e(
      task bigint, attempt integer, outcome text, what text, "deadlineMs" float8, error jsonb, evidence jsonb)
    where e.outcome in ('awaiting', 'uncertain') and r.task = e.task and r.attempt = e.attempt and r.dispatcher is not null
      and (r.dispatcher = p_dispatcher or r.phase <> 'running')
    returning r.task
  )
  select coalesce(array_agg(task), '{}') into stay from stays;
  return back || stay;
end
$$;

-- What has become due and has its place is ready, if nothing else holds it back; what has none takes it in a transaction of its own.
create function queue.promote_due(p_at timestamptz) returns integer
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  promoted bigint[];
begin
  if not exists (select from queue.scheduled where due <= p_at) then
    return 0;
  end if;
  select array_agg(task) into promoted from (
    select w.task from queue.wait w
    where w.task in (select s.task from queue.scheduled s where s.due <= p_at order by s.due limit 1000)
    order by w.task for update skip locked
  ) w;
  with gone as (
    delete from queue.scheduled s where s.task = any (promoted) and s.due <= p_at returning task
  )
  update queue.wait w set barred = barred - 1 from gone where w.task = gone.task;
  return queue.make_ready(promoted);
end
$$;

create function queue.children_of(p_parent bigint) returns jsonb
  language sql stable set search_path = pg_catalog, pg_temp as $$
  select jsonb_agg(jsonb_build_object('id', c.id, 'index', c.index, 'action', c.action, 'title', c.title, 'args', c.args,
    'state', c.outcome, 'result', c.result, 'error', c.error, 'undo', c.step, 'undoes', c.undo -> 'of') order by c.id)
  from (
    select t.id, t.action, t.title, t.args, t.outcome, t.result, t.error, u.step, t.undo, row_number() over (order by t.id) - 1 as index
    from queue.task t left join queue.undo_step u on u.task = t.id where t.parent = p_parent
  ) c
$$;

-- Whether that report of that attempt has been recorded: its sender has not heard so, and sends it again. Or the attempt ended in a step
-- whose answer was lost, and is reported as to be tried again.
create function queue.is_recorded(p_task bigint, p_attempt integer, p_said text) returns boolean
  language sql stable set search_path = pg_catalog, pg_temp as $$
  select exists (
      select from queue.task t where t.id = p_task and t.attempts = p_attempt
        -- What someone asked to cancel was not tried again.
        and (t.outcome::text = p_said or (t.outcome = 'cancelled' and p_said in ('retry', 'park'))))
    or (p_said in ('retry', 'park') and (
      exists (select from queue.attempt a where a.task = p_task and a.attempt = p_attempt
        and a.outcome in ('retry', 'parked', 'waiting', 'expanded'))
      or exists (select from queue.run r where r.task = p_task and r.attempt = p_attempt and r.dispatcher is null)))
$$;

-- Rows: `stale` (a report that was refused), `lease_lost`, `claimed`, `due` (number: milliseconds until the next task is due),
-- `chores` (number: what must be ended or placed in a transaction of its own).
create function queue.settle(p_dispatcher bigint, p_ends jsonb, p_take integer) returns table (
  kind text, task bigint, attempt integer, action text, title text, args jsonb, plan bigint, parent bigint, priority smallint,
  binds boolean, bound jsonb, by text, children jsonb, number bigint
) language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set jit = off as $$
#variable_conflict use_column
declare
  t constant timestamptz := queue.now();
  holds constant boolean := queue.lease_holds(p_dispatcher);
  given bigint[];
  good bigint[]; bad bigint[];
  ended bigint[] := '{}';
  ours bigint[] := '{}'; -- recorded, whatever the outcome
  known bigint[]; -- or so before
  begun bigint[] := '{}';
  made integer := 0;
begin
  select array_agg(e.task) into given from jsonb_to_recordset(p_ends) as e(task bigint);

  if given is not null and holds then
    -- In id order, and before anything is read that a submission may be adding: see lock_tasks.
    perform from queue.task where id = any (given) and outcome is null order by id for update;

    with ends as (
      select e.task, e.attempt, e.result, e.error,
        -- What someone asked to cancel is not tried again.
        case when e.outcome in ('retry', 'park') then 'cancelled' else e.outcome end::queue.state as outcome
      from jsonb_to_recordset(p_ends) as e(task bigint, attempt integer, outcome text, result jsonb, error jsonb)
      where e.outcome in ('complete', 'failed', 'cancelled')
        or (e.outcome in ('retry', 'park') and exists (select from queue.cancel_request c where c.task = e.task))
    ), final as (
      delete from queue.run r using ends e
      where r.task = e.task and r.attempt = e.attempt and r.dispatcher is not null
        and (r.dispatcher = p_dispatcher or r.phase <> 'running')
      returning r.task, r.attempt, r.started_at, e.outcome, e.result, e.error
    ), written as (
      update queue.task x set outcome = f.outcome, attempts = f.attempt, started_at = f.started_at, ended_at = t,
        result = case when f.outcome = 'complete' then f.result end,
        error = case when f.outcome <> 'complete'
          then coalesce(f.error, jsonb_build_object('code', f.outcome, 'message', 'no error was given')) end
      from final f where x.id = f.task
      returning x.id, x.outcome
    )
    select coalesce(array_agg(id) filter (where outcome = 'complete'), '{}'),
      coalesce(array_agg(id) filter (where outcome <> 'complete'), '{}')
    into good, bad from written;
    ended := good || bad;
    ours := ended;
    if cardinality(ended) > 0 then
      made := queue.after_ends(good, bad);
    end if;
    if cardinality(ended) < cardinality(given) then
      ours := ours || queue.settle_others(p_dispatcher, p_ends, t);
    end if;
  end if;

  if given is not null and cardinality(ours) < cardinality(given) then
    known := ours || array(
      select e.task from jsonb_to_recordset(p_ends) as e(task bigint, attempt integer, outcome text)
      where e.task <> all (ours) and queue.is_recorded(e.task, e.attempt, e.outcome));
    with stale as (
      insert into queue.stale_report (at, dispatcher, task, attempt, said)
      select t, p_dispatcher, e.task, e.attempt, e.outcome
      from jsonb_to_recordset(p_ends) as e(task bigint, attempt integer, outcome text) where e.task <> all (known)
      returning *
    )
    insert into queue.log (task, attempt, at, level, message, data)
    select s.task, s.attempt, t, 'warn', 'the report of a past attempt was refused', jsonb_build_object('said', s.said, 'dispatcher', s.dispatcher)
    from stale s;
    kind := 'stale';
    for task, attempt in
      select e.task, e.attempt from jsonb_to_recordset(p_ends) as e(task bigint, attempt integer) where e.task <> all (known)
    loop
      return next;
    end loop;
  end if;
  if not holds then
    kind := 'lease_lost';
    return next;
    return;
  end if;

  made := made + queue.promote_due(t);
  if p_take > 0 then
    with picked as (
      -- By ctid, not by key: a row comparison against an array cannot use the index (300 to 1,000 tasks/s).
      delete from queue.ready
      where ctid = any (array(
        select ctid from queue.ready order by rank, position, task limit p_take for update skip locked))
      returning task, rank, position, attempts, started
    ), claimed as (
      insert into queue.run (task, attempt, dispatcher, started, started_at, priority, position)
      -- Its time is read after this statement's snapshot: later than the end of everything that it had to wait for.
      select p.task, p.attempts + 1, p_dispatcher, p.started or not x.binds, (select queue.now()), -p.rank, p.position
      from picked p join queue.task x on x.id = p.task
      returning task
    )
    select coalesce(array_agg(task), '{}') into begun from claimed;
  end if;
  if cardinality(begun) > 0 or cardinality(ours) > 0 then
    perform queue.tell(p_started => begun, p_ended => ended, p_changed => ours[cardinality(ended) + 1:]);
  end if;
  -- Only what is left for others is worth waking them.
  if made > cardinality(begun) then
    perform queue.wake();
  end if;

  kind := 'due';
  task := null; attempt := null;
  select ceil(extract(epoch from min(due) - t) * 1000) into number from queue.scheduled;
  if number is not null then
    number := greatest(number, 0);
    return next;
  end if;
  if exists (select from queue.wait where doomed_by is not null)
    or exists (select from queue.wait where position is null and barred = 0 and behind = 0) then
    kind := 'chores';
    return next;
  end if;
  if cardinality(begun) > 0 then
    return query
      select 'claimed', x.id, r.attempt, x.action, x.title, x.args, x.plan, x.parent, x.priority, x.binds,
        case when x.binds then (select b.bound from queue.bound b where b.task = x.id) end, x.created_by,
        case when r.started and r.attempt > 1 then queue.children_of(x.id) end, null::bigint
      from queue.run r join queue.task x on x.id = r.task
      where r.task = any (begun) and x.id = any (begun)
      order by r.priority desc, r.position, x.id;
  end if;
end
$$;

grant execute on function
  queue.register_dispatcher(text, integer), queue.beat(bigint), queue.unregister_dispatcher(bigint),
  queue.prove_lease(bigint), queue.settle(bigint, jsonb, integer)
  to taskomatic_client;
