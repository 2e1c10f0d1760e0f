-- Complex tasks: a running task gets children in one transaction and awaits their ends. Expansions are checked and written one
-- after another (two checked concurrently: 95 of 5,000 model runs stood still).
--
-- Of two conflicting tasks the later position waits for the earlier, except that nobody is put before a task that has started.
-- "A parent waits for its children" is waiting too. So what is asked of each new child C of P is what C would reach by waiting:
--   1. explicit edges, and edges to started tasks: these cannot be turned round. If they reach P, the child is refused.
--   2. unstarted tasks of earlier positions: C waits for them, unless they reach P: then they wait for C instead.
--   3. unstarted tasks of later positions: they wait for C, unless C reaches them: then C waits for them. Through others it does so
--      already, but these may be cancelled or held: it needs an edge of its own.
-- Turning round closes no circle: in 2 what reaches P is not reached by C (else 1 or 2 had found P), in 3 C reaches it anyway.

-- What is waited for, directly and through others, by these: prerequisites that are open, and a parent's open children.
create function queue.reached_from(p_tasks bigint[]) returns bigint[]
  language sql set search_path = pg_catalog, pg_temp as $$
  with recursive reached as (
    select unnest(p_tasks) as task
    union
    select n.task from reached r cross join lateral (
      select p.prerequisite as task from queue.prerequisite p join queue.task b on b.id = p.prerequisite and b.outcome is null
        where p.task = r.task
      union all
      select c.id from queue.task c where c.parent = r.task and c.outcome is null
    ) n
  )
  select coalesce(array_agg(task), '{}') from reached
$$;

-- The shortest way from one of `p_from` to `p_to`, for people: breadth first, since the ways themselves are too many to list.
create function queue.way(p_from bigint[], p_to bigint) returns bigint[]
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  seen bigint[] := p_from;
  came bigint[] := array_fill(null::bigint, array[cardinality(p_from)]); -- beside `seen`: from where
  frontier bigint[] := p_from;
  found bigint[]; origins bigint[];
  path bigint[];
  at bigint := p_to;
begin
  while p_to <> all (seen) and cardinality(frontier) > 0 and cardinality(seen) < 100000 loop
    select coalesce(array_agg(n.task), '{}'), coalesce(array_agg(n.origin), '{}') into found, origins
    from (
      select e.task, min(e.origin) as origin
      from (
        select p.prerequisite as task, f.task as origin from unnest(frontier) as f(task)
          join queue.prerequisite p on p.task = f.task join queue.task b on b.id = p.prerequisite and b.outcome is null
        union all
        select c.id, f.task from unnest(frontier) as f(task) join queue.task c on c.parent = f.task and c.outcome is null
      ) e
      where e.task <> all (seen) group by e.task
    ) n;
    frontier := found;
    seen := seen || found;
    came := came || origins;
  end loop;
  while at is not null loop
    path := at || path;
    at := came[array_position(seen, at)];
  end loop;
  return path;
end
$$;

create function queue.ancestors(p_task bigint) returns bigint[]
  language sql stable set search_path = pg_catalog, pg_temp as $$
  with recursive up as (
    select id, parent from queue.task where id = p_task
    union all
    select t.id, t.parent from up join queue.task t on t.id = up.parent
  )
  select array_agg(id) from up
$$;

create function queue.position_of(p_task bigint) returns bigint[]
  language sql stable set search_path = pg_catalog, pg_temp as $$
  select coalesce(t.path, array[p.position]) from queue.task t left join queue.place p on p.task = t.id where t.id = p_task
$$;

-- Rows: `stale`, `lease_lost`, `cancelled` (it was asked to stop, and nothing was made), `child` (with its id) or `refused` (ended at once as failed, with its id and the error).
create function queue.expand(p_dispatcher bigint, p_task bigint, p_attempt integer, p_children jsonb)
  returns table (kind text, child integer, id bigint, error jsonb)
  language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan set jit = off as $$
#variable_conflict use_column
declare
  n constant integer := jsonb_array_length(p_children);
  t constant timestamptz := queue.now();
  holds boolean;
  parent record;
  parent_run record;
  above bigint[];
  parent_path bigint[];
  ids bigint[];
  c_index integer[]; c_name text[]; c_exclusive boolean[]; c_resource integer[];
  others bigint[];      -- open tasks whose claims conflict with a child's
  named bigint[];       -- stored tasks that explicit edges name
  still_open bigint[];
  back bigint[];
  begun bigint[];       -- of `others`: has an attempt
  moved bigint[] := '{}';
  one record;
  mine bigint;
  asked bigint[]; asked_needs queue.needs[];
  forced bigint[];     -- edges of it that cannot be turned round
  earlier bigint[]; later bigint[]; first bigint[]; reached bigint[];
  reach bigint[]; reach_earlier bigint[];
  bad_id bigint; bad_code text;
  circle bigint[];
  refused bigint[] := '{}'; errors jsonb[] := '{}';
  made integer;
begin
  if n <= 10 then
    perform set_config('plan_cache_mode', 'force_generic_plan', true); -- until the function returns
  end if;
  if n < 1 or n > 10000 then
    perform queue.refuse('too_many_tasks', format('a task expands into 1 to 10,000 children, not %s', n), array[p_task]);
  end if;
  holds := queue.lease_holds(p_dispatcher);
  perform pg_advisory_xact_lock(7243003);
  if not holds then
    kind := 'lease_lost';
    return next;
    return;
  end if;

  select array_agg(c.index), array_agg(c.resource), array_agg(c.exclusive) into c_index, c_name, c_exclusive
  from (
    select e.index, c.resource, bool_or(c.mode = 'exclusive') as exclusive
    from jsonb_array_elements(p_children) with ordinality as e(task, index)
    cross join lateral jsonb_to_recordset(e.task -> 'claims') as c(resource text, mode text)
    group by e.index, c.resource
  ) c;
  -- All of them as if exclusive: others are put behind the children, whatever their mode.
  if c_name is not null then
    perform queue.lock_resources(c_name, array_fill(true, array[cardinality(c_name)]));
    select array_agg(c.index), array_agg(r.id), array_agg(c.exclusive) into c_index, c_resource, c_exclusive
    from unnest(c_index, c_name, c_exclusive) as c(index, name, exclusive)
    join queue.resource r on r.name = c.name collate "C";
  end if;
  above := queue.ancestors(p_task);
  select array_agg(distinct k.task) into others
  from unnest(c_resource, c_exclusive) as c(resource, exclusive)
  join queue.claim k on k.resource = c.resource and (k.exclusive or c.exclusive) and k.position is not null
  where k.task <> all (above);
  select array_agg(distinct a.task) into named
  from jsonb_array_elements(p_children) as e(task)
  cross join lateral jsonb_to_recordset(e.task -> 'after') as a(task bigint) where e.task ? 'after' and a.task is not null;

  still_open := queue.lock_tasks(array[p_task], others || named);
  select r.* into parent_run from queue.run r
    where r.task = p_task and r.attempt = p_attempt and r.dispatcher = p_dispatcher and r.phase = 'running';
  if not found or p_task <> all (still_open) then
    insert into queue.stale_report (at, dispatcher, task, attempt, said) values (t, p_dispatcher, p_task, p_attempt, 'expand');
    kind := 'stale';
    return next;
    return;
  end if;
  -- Asked to stop before it had any; one that has some goes on, to tidy up.
  if exists (select from queue.cancel_request c where c.task = p_task)
    and not exists (select from queue.family f where f.parent = p_task) then
    kind := 'cancelled';
    return next;
    return;
  end if;
  select x.* into parent from queue.task x where x.id = p_task;
  parent_path := coalesce(parent.path, array[parent_run.position]);

  -- Whoever is ready and conflicts may have to wait again: out of reach of claims until we are done.
  perform from queue.wait where task = any (others) order by task for update;
  back := queue.make_wait(array(select o from unnest(others) as o where o = any (still_open)));
  select coalesce(array_agg(r.task), '{}') into begun from queue.run r where r.task = any (others);
  select begun || coalesce(array_agg(w.task), '{}') into begun from queue.wait w where w.task = any (others) and w.started;

  select array_agg(nextval('queue.position')) into ids from generate_series(1, n);
  insert into queue.task (
    id, action, title, args, claims, effects, limits, undo, plan, parent, path, priority, not_before, binds, created_by, reason, created_at)
  select ids[e.index], e.task ->> 'action', e.task ->> 'title', e.task -> 'args', e.task -> 'claims', e.task -> 'effects',
    e.task -> 'limits', e.task -> 'undo', parent.plan, p_task, parent_path || ids[e.index],
    coalesce((e.task ->> 'priority')::smallint, parent.priority), (e.task ->> 'notBefore')::timestamptz,
    (e.task ->> 'binds')::boolean, parent.created_by, parent.reason, t
  from jsonb_array_elements(p_children) with ordinality as e(task, index);
  insert into queue.claim (task, resource, position, exclusive, own)
  select ids[c.index], c.resource, parent_path[1], c.exclusive, true from unnest(c_index, c_resource, c_exclusive) as c(index, resource, exclusive);
  insert into queue.effect (task, ordinal, subject)
  select ids[e.index], f.ordinal - 1, f.effect ->> 'subject'
  from jsonb_array_elements(p_children) with ordinality as e(task, index)
  cross join lateral jsonb_array_elements(e.task -> 'effects') with ordinality as f(effect, ordinal);
  insert into queue.cost (task, key, units, rank)
  select ids[e.index], l.key, sum(l.units), -coalesce((e.task ->> 'priority')::smallint, parent.priority)
  from jsonb_array_elements(p_children) with ordinality as e(task, index)
  cross join lateral jsonb_to_recordset(e.task -> 'limits') as l(key text, units integer)
  where e.task ? 'limits' group by e.index, l.key, e.task;
  insert into queue.held (task, reason, held_by, since)
  select ids[e.index], e.task #>> '{hold,reason}', parent.created_by, t
  from jsonb_array_elements(p_children) with ordinality as e(task, index) where e.task ? 'hold';
  insert into queue.scheduled (task, due)
  select ids[e.index], (e.task ->> 'notBefore')::timestamptz
  from jsonb_array_elements(p_children) with ordinality as e(task, index) where (e.task ->> 'notBefore')::timestamptz > t;
  insert into queue.wait (task, unmet, barred, limited, priority, position)
  select x.id, 0, (h.task is not null)::integer + (s.task is not null)::integer, x.limits is not null, x.priority, parent_path[1]
  from queue.task x left join queue.held h on h.task = x.id left join queue.scheduled s on s.task = x.id
  where x.id = any (ids);

  -- Who conflicts with each child, its elder siblings among them, by what they are; asked once for all children. What is begun,
  -- and whose position is what, does not change any more under our locks.
  for one in
    with other as (
      select o.task, coalesce(x.path, array[p.position]) as position, o.task = any (begun) as begun
      from unnest(others) as o(task) join queue.task x on x.id = o.task join queue.place p on p.task = o.task
      where o.task = any (still_open) and x.id = any (others)
    ), mine as (
      select c.index, c.resource, c.exclusive from unnest(c_index, c_resource, c_exclusive) as c(index, resource, exclusive)
    ), conflict as (
      select m.index, o.task, case when o.begun then 's' when o.position < parent_path || ids[m.index] then 'e' else 'l' end as class
      from mine m join queue.claim k on k.resource = m.resource and (k.exclusive or m.exclusive) and k.position is not null
      join other o on o.task = k.task
      union
      select m.index, ids[e.index], 'e'
      from mine m join mine e on e.resource = m.resource and e.index < m.index and (e.exclusive or m.exclusive)
    ), sorted as (
      select index, array_agg(task) filter (where class = 's') as started, array_agg(task) filter (where class = 'e') as earlier,
        array_agg(task) filter (where class = 'l') as later
      from conflict group by index
    )
    select i.index, s.started, s.earlier, s.later, p_children -> (i.index - 1) -> 'after' as after
    from generate_series(1, n) as i(index) left join sorted s on s.index = i.index
    order by i.index
  loop
    mine := ids[one.index];
    bad_code := null;
    asked := null; asked_needs := null;
    if one.after is not null then
      select array_agg(a.prerequisite), array_agg(a.needs) into asked, asked_needs
      from (
        select coalesce(a.task, case when a.element >= 0 and a.element < one.index - 1 then ids[a.element + 1] end) as prerequisite, a.needs
        from jsonb_to_recordset(one.after) as a(task bigint, element integer, needs queue.needs)
      ) a;
      select a.prerequisite, case
          when a.prerequisite is null then 'later_position'
          when b.id is null then 'task_not_found'
          when a.needs = 'complete' and b.outcome <> 'complete' then 'prerequisite_ended_badly'
          else 'later_position'
        end
      into bad_id, bad_code
      from unnest(asked, asked_needs) as a(prerequisite, needs) left join queue.task b on b.id = a.prerequisite
      where a.prerequisite is null or b.id is null or (a.needs = 'complete' and b.outcome <> 'complete')
        or (b.outcome is null and a.prerequisite <> all (ids)
          and (queue.position_of(a.prerequisite) is null or queue.position_of(a.prerequisite) > parent_path || mine))
      limit 1;
    end if;

    earlier := array(select e from unnest(one.earlier) as e where e <> all (refused));
    forced := asked || one.started;
    reach := case when forced is null then '{}' else queue.reached_from(forced) end;
    if bad_code is null and p_task = any (reach) then
      circle := queue.way(forced, p_task) || mine;
      bad_code := 'circle';
    end if;
    if bad_code is not null then
      kind := 'refused'; child := one.index - 1; id := mine;
      error := jsonb_build_object('code', bad_code, 'message', case bad_code
        when 'circle' then format('it would wait for itself, through tasks %s', array_to_string(circle, ', '))
        when 'task_not_found' then format('task %s not found', bad_id)
        when 'later_position' then format('it may only come after what stands before it, unlike %s', coalesce('task ' || bad_id, 'a later child'))
        else format('task %s is needed, but it has not ended well', bad_id) end);
      refused := refused || mine; errors := errors || error;
      return next;
      continue;
    end if;

    first := null;
    if cardinality(earlier) > 0 then
      reach_earlier := queue.reached_from(earlier);
      if p_task = any (reach_earlier) then
        -- Some of them would close a circle: which, is asked one by one.
        select array_agg(e) filter (where p_task = any (queue.reached_from(array[e]))),
          array_agg(e) filter (where p_task <> all (queue.reached_from(array[e])))
        into first, earlier from unnest(earlier) as e;
        reach_earlier := queue.reached_from(earlier);
      end if;
      reach := reach || reach_earlier;
    end if;
    later := array(select l from unnest(one.later) as l where l <> all (reach));
    reached := array(select l from unnest(one.later) as l where l = any (reach));

    if forced is not null or cardinality(earlier) > 0 or cardinality(reached) > 0 then
      insert into queue.prerequisite (task, prerequisite, needs, derived)
      select mine, a.prerequisite, min(a.needs), bool_and(a.derived)
      from (
        select u.prerequisite, u.needs, false as derived from unnest(asked, asked_needs) as u(prerequisite, needs)
        union all
        select e, 'ended', true from unnest(one.started || earlier || reached) as e
      ) a group by a.prerequisite;
    end if;
    if cardinality(later) > 0 or first is not null then
      insert into queue.prerequisite (task, prerequisite, needs, derived)
      select l, mine, 'ended', true from unnest(later || first) as l on conflict do nothing;
      moved := moved || later || first;
    end if;

    kind := 'child'; child := one.index - 1; id := mine; error := null;
    return next;
  end loop;

  if cardinality(refused) > 0 then
    update queue.task x set outcome = 'failed', ended_at = t, error = r.error
      from unnest(refused, errors) as r(id, error) where x.id = r.id and x.id = any (refused);
    delete from queue.claim where task = any (refused);
    delete from queue.effect where task = any (refused);
    delete from queue.cost where task = any (refused);
    delete from queue.wait where task = any (refused);
    delete from queue.held where task = any (refused);
    delete from queue.scheduled where task = any (refused);
  end if;

  insert into queue.attempt (task, attempt, dispatcher, started_at, ended_at, outcome)
    values (p_task, p_attempt, p_dispatcher, parent_run.started_at, t, 'expanded');
  update queue.run r set phase = 'awaiting', dispatcher = null, awaiting = 'children', started = true where r.task = p_task;
  insert into queue.family (parent, open) values (p_task, n - cardinality(refused))
    on conflict (parent) do update set open = family.open + excluded.open;
  perform queue.give_back(array[p_task]);
  perform queue.recount(ids || moved || back);
  -- The others as well: whoever granted units passed over those whose rows we hold.
  made := queue.make_ready(ids || moved || back || others);
  if cardinality(refused) = n then
    made := made + queue.resume_parents(array[p_task]);
  end if;
  perform queue.tell(p_submitted => ids, p_changed => array[p_task] || moved, p_ended => refused);
  if made > 0 then
    perform queue.wake();
  end if;
end
$$;

grant execute on function queue.expand(bigint, bigint, integer, jsonb) to taskomatic_client;
