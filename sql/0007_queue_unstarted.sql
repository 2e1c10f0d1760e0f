-- What happens to tasks that have not begun: cancelled, doomed by a prerequisite, held, released, placed; and ended ones brought
-- back. Each locks the resources of its tasks before the tasks, and so runs in a transaction of its own.

create function queue.lock_resources_of(p_tasks bigint[]) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform from queue.resource
    where id in (select c.resource from queue.claim c where c.task = any (p_tasks)) order by name for update;
end
$$;

-- The edges by which lines close where `p_leaving` leave them: who waited for what was before them only through them waits for it
-- itself from now on. (Without this, tried in a model: 1,594 of 3,000 runs had two conflicting tasks together.) Of all their lines, or
-- only of those on p_resources: the caller holds these resources, others may change under it.
create function queue.closing_edges(p_leaving bigint[], p_resources integer[] default null) returns table (task bigint, prerequisite bigint)
  language plpgsql set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_column
declare
  f_resource integer[]; f_position bigint[]; f_task bigint[]; f_exclusive boolean[];
begin
  with gone as (
    select c.resource, c.position, c.exclusive,
      (select max(p.position) from queue.claim p
        where p.resource = c.resource and p.exclusive and not p.own and p.position < c.position and p.task <> all (p_leaving)) as previous,
      (select min(n.position) from queue.claim n
        where n.resource = c.resource and n.exclusive and not n.own and n.position > c.position and n.task <> all (p_leaving)) as next
    from queue.claim c where c.task = any (p_leaving) and not c.own and c.position is not null
      and (p_resources is null or c.resource = any (p_resources))
  ), followers as (
    -- After an exclusive claim: the sharers up to the next exclusive one, and that.
    select f.resource, f.position, f.task, f.exclusive from gone g
    join queue.claim f on f.resource = g.resource and f.position > g.position and f.position <= coalesce(g.next, f.position)
    where g.exclusive and not f.own and f.task <> all (p_leaving)
    union
    -- After a shared one: the next exclusive, and only if no other sharer stands between it and the exclusive before.
    select f.resource, f.position, f.task, f.exclusive from gone g
    join queue.claim f on f.resource = g.resource and f.position = g.next
    where not g.exclusive and not f.own and f.exclusive and not exists (
      select from queue.claim o where o.resource = g.resource and not o.own and not o.exclusive
        and o.position > coalesce(g.previous, 0) and o.position < g.next and o.task <> all (p_leaving))
  ), span as (
    select resource, min(position) as first, max(position) as last from followers group by resource
  ), whole as (
    -- Where one line has several gaps, what stands between them counts as well: what follows the second gap waits for that, not for
    -- what followed the first. Edges that are there already are not added again.
    select c.resource, c.position, c.task, c.exclusive from span s
    join queue.claim c on c.resource = s.resource and c.position between s.first and s.last
    where not c.own and c.task <> all (p_leaving)
  )
  select array_agg(resource), array_agg(position), array_agg(task), array_agg(exclusive)
  into f_resource, f_position, f_task, f_exclusive from whole;
  if f_task is not null then
    return query select * from queue.line_edges(f_resource, f_position, f_task, f_exclusive, p_leaving);
  end if;
end
$$;

-- Adds derived edges whose predecessors are locked and still open. Counters are the caller's business (recount).
create function queue.add_edges(p_task bigint[], p_prerequisite bigint[], p_open bigint[]) returns void
  language sql set search_path = pg_catalog, pg_temp as $$
  insert into queue.prerequisite (task, prerequisite, needs, derived)
  select e.task, e.prerequisite, 'ended', true from unnest(p_task, p_prerequisite) as e(task, prerequisite)
  where e.prerequisite = any (p_open)
  on conflict (task, prerequisite) do nothing
$$;

-- Ends tasks that have not begun; returns those that it ended. What has begun meanwhile is left alone, and so is a parent that is
-- ready again: it has yet to hear what became of its children.
create function queue.end_unstarted(p_tasks bigint[], p_outcome queue.state, p_errors jsonb[]) returns bigint[]
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  e_task bigint[]; e_prerequisite bigint[];
  still_open bigint[];
  mine bigint[];
  dependants bigint[];
  made integer;
begin
  perform queue.lock_resources_of(p_tasks);
  select array_agg(e.task), array_agg(e.prerequisite) into e_task, e_prerequisite from queue.closing_edges(p_tasks) e;
  still_open := queue.lock_tasks(p_tasks, e_prerequisite);
  select array_agg(distinct d.task) into dependants from (
    select task from queue.prerequisite where prerequisite = any (p_tasks)
    union select unnest(e_task)) d;

  -- Whoever is in neither has begun. A claim that was just taking it from ready is waited for.
  perform from queue.wait where task = any (p_tasks || dependants) order by task for update;
  perform from queue.ready where task = any (p_tasks) order by task for update;
  with waiting as (
      delete from queue.wait w where w.task = any (p_tasks) and not (w.started and exists (select from queue.family f where f.parent = w.task))
      returning w.task, w.attempts, w.behind),
    at_hand as (
      delete from queue.ready r where r.task = any (p_tasks) and not (r.started and exists (select from queue.family f where f.parent = r.task))
      returning r.task, r.attempts),
    written as (
      update queue.task t set outcome = p_outcome, error = e.error, attempts = g.attempts, ended_at = queue.now()
      from (select task, attempts from waiting union all select task, attempts from at_hand) g
      join unnest(p_tasks, p_errors) as e(task, error) on e.task = g.task
      where t.id = g.task and t.id = any (p_tasks)
      returning t.id
    )
  select coalesce(array_agg(id), '{}') into mine from written;
  if cardinality(mine) = 0 then
    return mine;
  end if;
  delete from queue.held where task = any (mine);
  delete from queue.scheduled where task = any (mine);
  delete from queue.parked where task = any (mine);
  perform queue.add_edges(e_task, e_prerequisite, still_open);
  perform queue.recount(dependants);
  -- Its own dependants are counted already; after_ends, which counts down, must not see them.
  made := queue.after_unstarted(mine) + queue.make_ready(dependants);
  perform queue.tell(p_ended => mine);
  if made > 0 then
    perform queue.wake();
  end if;
  return mine;
end
$$;

-- after_ends without the counting of dependants.
create function queue.after_unstarted(p_tasks bigint[]) returns integer
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  parents bigint[];
  ended integer[];
  made integer := 0;
begin
  delete from queue.claim where task = any (p_tasks);
  delete from queue.effect where task = any (p_tasks);
  delete from queue.cancel_request where task = any (p_tasks);
  select array_agg(f.parent), array_agg(f.ended) into parents, ended
  from (select parent, count(*) as ended from queue.task where id = any (p_tasks) and parent is not null group by parent) f;
  if parents is not null then
    made := queue.children_ended(parents, ended);
  end if;
  return made + queue.give_back(p_tasks);
end
$$;

-- Ends up to p_limit tasks that a prerequisite doomed (or that were asked to stop while they went back to waiting). The error names
-- the root of the chain. Returns how many it ended.
create function queue.end_doomed(p_limit integer default 100) returns integer
  language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  doomed bigint[]; errors jsonb[];
  cancelled bigint[];
begin
  select array_agg(w.task order by w.task) into cancelled
    from (select task from queue.wait where doomed_by = task order by task limit p_limit) w;
  if cancelled is not null then
    return cardinality(queue.end_unstarted(cancelled, 'cancelled', (
      select array_agg(queue.cancel_error(task) order by task) from unnest(cancelled) as c(task))));
  end if;
  select array_agg(d.task order by d.task), array_agg(d.error order by d.task) into doomed, errors
  from (
    select w.task, jsonb_build_object(
      'code', 'prerequisite_failed',
      'message', format('it needs task %s (%s), which %s', root.id, root.title,
        case root.outcome when 'failed' then 'failed: ' || coalesce(root.error ->> 'message', '') else 'was cancelled' end),
      'next', format('see task %s; retry it with its dependants', root.id),
      'details', jsonb_build_object('root', root.id, 'prerequisite', b.id)) as error
    from queue.wait w
    join queue.task b on b.id = w.doomed_by
    join queue.task root on root.id = coalesce(
      case when b.error ->> 'code' = 'prerequisite_failed' then (b.error #>> '{details,root}')::bigint end, b.id)
    where w.doomed_by is not null order by w.task limit p_limit
  ) d;
  if doomed is null then
    return 0;
  end if;
  return cardinality(queue.end_unstarted(doomed, 'failed', errors));
end
$$;

create function queue.cancel_error(p_task bigint) returns jsonb
  language sql stable set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object('code', 'cancelled',
    'message', coalesce('cancelled by ' || c.asked_by || coalesce(': ' || c.reason, ''), 'cancelled'))
  from (select) one left join queue.cancel_request c on c.task = p_task
$$;

-- Takes places in the lines, at their end, for tasks that had none: what has become due, was released or retried, and what needs
-- only tasks that have places. Returns how many it placed.
create function queue.place_waiting(p_limit integer default 100) returns integer
  language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan set jit = off as $$
declare
  newcomers bigint[];
  c_task bigint[]; c_resource integer[]; c_exclusive boolean[]; c_position bigint[];
  e_task bigint[]; e_prerequisite bigint[];
  positions bigint[];
  still_open bigint[];
  found_ready bigint[];
  dependants bigint[];
begin
  select array_agg(w.task order by w.task) into newcomers
    from (select task from queue.wait where position is null and barred = 0 and behind = 0 order by task limit p_limit) w;
  if newcomers is null then
    return 0;
  end if;
  perform queue.lock_resources(array_agg(r.name), array_agg(c.exclusive))
    from queue.claim c join queue.resource r on r.id = c.resource where c.task = any (newcomers) having count(*) > 0;
  select array_agg(nextval('queue.position')) into positions from generate_series(1, cardinality(newcomers));
  select array_agg(c.task), array_agg(c.resource), array_agg(c.exclusive), array_agg(u.position)
    into c_task, c_resource, c_exclusive, c_position
    from unnest(newcomers, positions) as u(task, position) join queue.claim c on c.task = u.task;
  if c_task is not null then
    select array_agg(e.task), array_agg(e.prerequisite) into e_task, e_prerequisite from (
      select * from queue.line_edges(c_resource, c_position, c_task, c_exclusive, null)
      union select * from queue.own_edges(c_resource, c_task, c_exclusive)) e;
  end if;
  still_open := queue.lock_tasks(newcomers, e_prerequisite);
  select array_agg(distinct task) into dependants from queue.prerequisite where prerequisite = any (newcomers);
  perform from queue.wait where task = any (newcomers || dependants) order by task for update;
  -- Between our look and our locks one may have been cancelled or held, or another dispatcher placed them: then the edges are not
  -- those of these lines, and the next call looks again.
  if (select count(*) from queue.wait
      where task = any (newcomers) and position is null and barred = 0 and behind = 0) < cardinality(newcomers) then
    return 0;
  end if;
  update queue.claim c set position = u.position from unnest(newcomers, positions) as u(task, position) where c.task = u.task;
  update queue.cost c set position = u.position from unnest(newcomers, positions) as u(task, position) where c.task = u.task;
  update queue.wait w set position = u.position from unnest(newcomers, positions) as u(task, position) where w.task = u.task;
  perform queue.add_edges(e_task, e_prerequisite, still_open);
  perform queue.recount(newcomers || dependants);
  if queue.make_ready(newcomers) > 0 then
    perform queue.wake();
  end if;
  perform queue.tell(p_changed => newcomers);
  return cardinality(newcomers);
end
$$;

-- p_tasks and what needs one of them explicitly, as far as it is new: what loses its place when they do.
create function queue.needing(p_tasks bigint[]) returns bigint[]
  language sql stable set search_path = pg_catalog, pg_temp as $$
  with recursive needing as (
    select unnest(p_tasks) as task
    union
    select p.task from needing n
    join queue.prerequisite p on p.prerequisite = n.task and not p.derived
    join queue.task t on t.id = p.task and t.outcome is null
  )
  select array_agg(task order by task) from needing
$$;

-- A held task gives up its place, and so does what needs it; others no longer wait for it. A child keeps its place: it stands
-- where its parent stands.
create function queue.hold(p_task bigint, p_reason text, p_by text) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  leaving bigint[];
  keeps_place boolean;
  e_task bigint[]; e_prerequisite bigint[];
  still_open bigint[];
  affected bigint[];
  is_open boolean;
begin
  select outcome is null, parent is not null into is_open, keeps_place from queue.task where id = p_task;
  if is_open is null then
    perform queue.refuse('task_not_found', format('task %s not found', p_task), array[p_task]);
  elsif not is_open then
    perform queue.refuse('already_ended', format('task %s has ended', p_task), array[p_task]);
  end if;
  leaving := queue.needing(array[p_task]);
  keeps_place := keeps_place
    or exists (select from queue.task where id = any (leaving) and parent is not null)
    or exists (select from queue.place where task = p_task and (attempts > 0 or position is null));
  if keeps_place then
    leaving := array[p_task];
  else
    perform queue.lock_resources_of(leaving);
    select array_agg(e.task), array_agg(e.prerequisite) into e_task, e_prerequisite from queue.closing_edges(leaving) e;
  end if;
  still_open := queue.lock_tasks(leaving, e_prerequisite);
  if not keeps_place and queue.needing(array[p_task]) is distinct from leaving then
    raise exception using errcode = '40001', message = 'what needs the task changed in the same moment';
  end if;
  select array_agg(distinct d.task) into affected from (
    select task from queue.prerequisite where prerequisite = any (leaving)
    union select unnest(e_task) union select unnest(leaving)) d;
  perform from queue.wait where task = any (affected) order by task for update;
  perform queue.make_wait(array[p_task]);
  if not exists (select from queue.wait where task = p_task) then
    perform queue.refuse(
      case when p_task = any (still_open) then 'already_started' else 'already_ended' end,
      format('task %s is not waiting any more', p_task), array[p_task]);
  end if;
  insert into queue.held (task, reason, held_by, since) values (p_task, p_reason, p_by, queue.now())
    on conflict (task) do nothing;
  if found then
    update queue.wait set barred = barred + 1 where task = p_task;
  else
    update queue.held set reason = p_reason, held_by = p_by where task = p_task;
  end if;
  if not keeps_place then
    delete from queue.prerequisite where derived and (task = any (leaving) or prerequisite = any (leaving));
    perform queue.add_edges(e_task, e_prerequisite, still_open);
    -- In the lines that it joins anew it stands as everybody does, whatever it was rewritten to.
    update queue.claim set position = null, own = false where task = any (leaving);
    update queue.wait set position = null where task = any (leaving);
    perform queue.recount(affected);
    -- Without a place they queue for no units either: they ask when they have a new one.
    if queue.make_ready(affected) + queue.give_back(leaving) > 0 then
      perform queue.wake();
    end if;
  end if;
  perform queue.note(p_task, format('held by %s: %s', p_by, p_reason));
  perform queue.tell(p_changed => leaving);
end
$$;

-- Its new place is taken by place_waiting, in a transaction of its own.
create function queue.release(p_task bigint, p_by text) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform from queue.task where id = p_task and outcome is null for update;
  perform from queue.wait where task = p_task for update;
  delete from queue.held where task = p_task;
  if not found then
    perform queue.refuse('not_held', format('task %s is not held', p_task), array[p_task]);
  end if;
  update queue.wait set barred = barred - 1 where task = p_task;
  perform queue.make_ready(array[p_task]);
  perform queue.wake();
  perform queue.note(p_task, format('released by %s', p_by));
  perform queue.tell(p_changed => array[p_task]);
end
$$;

-- 'cancelled': it had not begun and has ended now. 'cancelling': whoever runs it is asked to stop, and its open children are
-- returned to be cancelled as well. 'ended': too late.
create function queue.cancel(p_task bigint, p_by text, p_reason text) returns table (answer text, children bigint[])
  language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  is_open boolean;
  ended bigint[];
begin
  children := '{}';
  select t.outcome is null into is_open from queue.task t where t.id = p_task;
  if is_open is null then
    perform queue.refuse('task_not_found', format('task %s not found', p_task), array[p_task]);
  end if;
  answer := 'ended';
  if is_open then
    ended := queue.end_unstarted(array[p_task], 'cancelled', array[jsonb_build_object('code', 'cancelled',
      'message', 'cancelled by ' || p_by || coalesce(': ' || p_reason, ''))]);
    if cardinality(ended) = 1 then
      answer := 'cancelled';
    elsif exists (select from queue.task t where t.id = p_task and t.outcome is null) then
      insert into queue.cancel_request (task, asked_by, reason, at) values (p_task, p_by, p_reason, queue.now())
        on conflict (task) do nothing;
      answer := 'cancelling';
      select coalesce(array_agg(c.id order by c.id), '{}') into children
        from queue.task c where c.parent = p_task and c.outcome is null;
      perform queue.tell(p_changed => array[p_task]);
      perform queue.wake();
    end if;
  end if;
  if answer <> 'ended' then
    perform queue.note(p_task, format('%s asked to cancel it', p_by), case when p_reason is not null then jsonb_build_object('reason', p_reason) end);
  end if;
  return next;
end
$$;

-- Brings an ended task back, at the end of the lines; with those that failed only since it did, if asked. Attempts count on.
create function queue.retry(p_task bigint, p_by text, p_with_dependants boolean) returns bigint[]
  language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  back bigint[];
  bad record;
  locked bigint[];
begin
  with recursive chain as (
    select p_task as task
    union
    select p.task from chain c
    join queue.prerequisite p on p.prerequisite = c.task and p.needs = 'complete'
    join queue.task t on t.id = p.task and t.outcome = 'failed' and t.error ->> 'code' = 'prerequisite_failed'
    where p_with_dependants
  )
  select array_agg(task order by task) into back from chain;
  -- Ended rows: nobody else changes them but another retry.
  select array_agg(l.id) into locked from (
    select id from queue.task where id = any (back) and outcome in ('failed', 'cancelled') order by id for update) l;
  if locked is distinct from back then
    perform queue.refuse(
      case when exists (select from queue.task where id = p_task) then 'not_ended' else 'task_not_found' end,
      format('task %s has not failed and was not cancelled', p_task), array[p_task]);
  end if;
  -- A child stands where its parent stands, and that has made up its mind, or will when the others have ended.
  select t.parent as id into bad from queue.task t where t.id = any (back) and t.parent is not null limit 1;
  if found then
    perform queue.refuse('parent_decides', format('it is a part of task %s: retry that', bad.id), array[bad.id]);
  end if;
  select b.id, b.outcome into bad from queue.prerequisite p join queue.task b on b.id = p.prerequisite
    where p.task = any (back) and not p.derived and p.needs = 'complete' and b.outcome <> 'complete' and b.id <> all (back) limit 1;
  if found then
    perform queue.refuse('prerequisite_ended_badly', format('task %s is needed, but it is %s', bad.id, bad.outcome), array[bad.id]);
  end if;

  if exists (
    select from queue.prerequisite p join queue.wait w on w.task = p.task
    where p.prerequisite = any (back) and p.needs = 'complete') then
    raise exception using errcode = '40001', message = 'what it doomed has not been ended yet';
  end if;
  -- For what is open its end has counted: it is not waited for again (its new place is behind them).
  delete from queue.prerequisite p using queue.task t
    where p.prerequisite = any (back) and t.id = p.task and t.outcome is null;

  insert into queue.attempt (task, attempt, started_at, ended_at, outcome, error)
    select id, attempts, started_at, ended_at, outcome::text, error from queue.task
    where id = any (back) and attempts > 0 and started_at is not null on conflict do nothing;
  insert into queue.wait (task, unmet, attempts, limited, priority)
    select t.id, 0, t.attempts, exists (select from queue.cost c where c.task = t.id), t.priority from queue.task t where t.id = any (back);
  update queue.task set outcome = null, error = null, result = null, started_at = null, ended_at = null where id = any (back);
  insert into queue.claim (task, resource, exclusive)
    select t.id, r.id, bool_or(c.mode = 'exclusive')
    from queue.task t cross join lateral jsonb_to_recordset(t.claims) as c(resource text, mode text)
    join queue.resource r on r.name = c.resource collate "C"
    where t.id = any (back) group by t.id, r.id;
  insert into queue.effect (task, ordinal, subject)
    select t.id, f.ordinal - 1, f.effect ->> 'subject'
    from queue.task t cross join lateral jsonb_array_elements(t.effects) with ordinality as f(effect, ordinal)
    where t.id = any (back);
  delete from queue.prerequisite where task = any (back) and derived;
  perform queue.recount(back);
  perform queue.note(b.task, format('retried by %s', p_by)) from unnest(back) as b(task);
  perform queue.tell(p_changed => back);
  perform queue.wake();
  return back;
end
$$;

-- Wakes what was parked for `p_key`. Returns how many. Who parks in this moment looks once more when that is recorded.
create function queue.unpark(p_key text) returns integer
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  woken bigint[];
begin
  select array_agg(w.task) into woken from (
    select task from queue.wait
    where task in (select task from queue.parked where key = p_key) order by task for update) w;
  -- Of those whose rows are ours: the others' would be locked out of order.
  with gone as (delete from queue.parked where key = p_key and task = any (woken) returning task),
    counted as (update queue.wait w set barred = barred - 1 from gone where w.task = gone.task returning w.task)
  select array_agg(task) into woken from counted;
  if woken is null then
    return 0;
  end if;
  if queue.make_ready(woken) > 0 then
    perform queue.wake();
  end if;
  perform queue.tell(p_changed => woken);
  return cardinality(woken);
end
$$;

-- Tasks of this dispatcher that someone asked to cancel.
create function queue.cancel_requests(p_dispatcher bigint) returns table (task bigint, asked_by text, reason text)
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select r.task, c.asked_by, c.reason from queue.cancel_request c join queue.run r on r.task = c.task
  where r.dispatcher = p_dispatcher order by r.task
$$;

grant execute on function
  queue.end_doomed(integer), queue.place_waiting(integer), queue.hold(bigint, text, text), queue.release(bigint, text),
  queue.cancel(bigint, text, text), queue.retry(bigint, text, boolean), queue.unpark(text), queue.cancel_requests(bigint)
  to taskomatic_client;
