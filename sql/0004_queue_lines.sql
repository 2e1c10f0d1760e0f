-- Locks, lines and edges: what submitting, placing, expanding, binding and ending share. None of these functions may be called
-- by a client; those that may are granted at the end of their files.
--
-- plan_cache_mode, on the functions that clients call and so for what they call: after five small arrays PostgreSQL would keep a
-- plan made for ten elements, and with the 10,000 of a large plan that never ends. Where arrays stay small such plans are wanted:
-- planning anew for each took longer than running.

-- Raises what src/queue/error.ts turns into a QueueError.
create function queue.refuse(p_code text, p_message text, p_tasks bigint[] default '{}') returns boolean
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  raise exception using errcode = 'TQ000', message = p_message, hint = p_code, detail = array_to_string(p_tasks, ',');
end
$$;

-- Names that are not there yet. In a transaction of its own: a row that is not committed yet would make others wait out of order.
create function queue.ensure_resources(p_names text[]) returns void
  language sql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
  insert into queue.resource (name)
  select distinct n.name collate "C" from unnest(p_names) as n(name)
  where not exists (select from queue.resource r where r.name = n.name collate "C")
  order by 1
  on conflict (name) do nothing
$$;

-- One pass by name: shared claims hold each other up no more than foreign keys do, an exclusive one keeps everybody out.
-- Neighbours of one mode are locked by one statement, so that 10,000 exclusive claims are not 10,000 statements.
create function queue.lock_resources(p_names text[], p_exclusive boolean[]) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  part record;
  missing text;
begin
  select w.name into missing from unnest(p_names) as w(name)
    where not exists (select from queue.resource r where r.name = w.name collate "C") limit 1;
  if missing is not null then
    perform queue.refuse('resource_missing', format('resource %s is not known yet', missing));
  end if;
  for part in
    with wanted as (
      select u.name collate "C" as name, bool_or(u.exclusive) as exclusive
      from unnest(p_names, p_exclusive) as u(name, exclusive) group by 1
    ), stretches as (
      select name, exclusive,
        row_number() over (order by name) - row_number() over (partition by exclusive order by name) as stretch
      from wanted
    )
    select array_agg(name order by name) as names, exclusive from stretches group by exclusive, stretch order by min(name)
  loop
    if part.exclusive then
      perform from queue.resource where name = any (part.names) order by name for update;
    else
      perform from queue.resource where name = any (part.names) order by name for key share;
    end if;
  end loop;
end
$$;

-- One pass by id. An end takes its own rows for update; who adds an edge takes the predecessor's for key share, and so either
-- comes before the end (which then sees the edge) or learns that it has ended. Returns those that are still open.
create function queue.lock_tasks(p_update bigint[], p_share bigint[]) returns bigint[]
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  part record;
  still_open bigint[] := '{}';
  locked bigint[];
begin
  for part in
    with wanted as (
      select u.id, bool_or(u.ours) as ours
      from (select unnest(p_update), true union all select unnest(p_share), false) as u(id, ours)
      where u.id is not null group by u.id
    ), stretches as (
      select id, ours, row_number() over (order by id) - row_number() over (partition by ours order by id) as stretch from wanted
    )
    select array_agg(id order by id) as ids, ours from stretches group by ours, stretch order by min(id)
  loop
    if part.ours then
      select array_agg(l.id) into locked
        from (select id from queue.task where id = any (part.ids) and outcome is null order by id for update) l;
    else
      select array_agg(l.id) into locked
        from (select id from queue.task where id = any (part.ids) and outcome is null order by id for key share) l;
    end if;
    still_open := still_open || locked;
  end loop;
  return still_open;
end
$$;

-- The edges that claims in lines give rise to: exclusive after each shared since the last exclusive, or directly after that;
-- shared after the last exclusive. Only the nearest: what is further away is waited for through others. `fresh` claims get edges;
-- they are the end of each line, or the part of it up to the next exclusive after `without` left it.
create function queue.line_edges(
  p_resource integer[], p_position bigint[], p_task bigint[], p_exclusive boolean[], p_without bigint[]
) returns table (task bigint, prerequisite bigint)
  language plpgsql set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_column
begin
  return query
  with fresh as (
    select * from unnest(p_resource, p_position, p_task, p_exclusive) as f(resource, position, task, exclusive)
  ), touched as (
    select resource, min(position) as first, bool_or(exclusive) as any_exclusive from fresh group by resource
  ), head as ( -- of each line's tail: the last exclusive before
    select t.resource, t.first, t.any_exclusive, x.position, x.task
    from touched t left join lateral (
      select c.position, c.task from queue.claim c
      where c.resource = t.resource and c.exclusive and not c.own and c.position < t.first
        and (p_without is null or c.task <> all (p_without))
      order by c.position desc limit 1
    ) x on true
  ), stream as (
    select resource, position, task, exclusive, true as fresh from fresh
    union all
    select resource, position, task, true, false from head where task is not null
    union all
    -- Who shares waits for no other sharer: with 100,000 of them on a host this part is not read.
    select h.resource, c.position, c.task, false, false
    from head h join queue.claim c on c.resource = h.resource and c.position > coalesce(h.position, 0) and c.position < h.first
    where h.any_exclusive and not c.exclusive and not c.own and (p_without is null or c.task <> all (p_without))
  ), line as (
    select *, lag(task) over w as before, lag(exclusive) over w as before_exclusive,
      (max(array[position, task]) filter (where exclusive) over (w rows between unbounded preceding and 1 preceding))[2] as last_exclusive,
      (min(array[position, task]) filter (where exclusive and fresh) over (v rows between unbounded preceding and 1 preceding))[2] as next_exclusive
    from stream window w as (partition by resource order by position), v as (partition by resource order by position desc)
  )
  select task, last_exclusive from line where fresh and not exclusive and last_exclusive is not null
  union
  select next_exclusive, task from line where not exclusive and next_exclusive is not null
  union
  select task, before from line where fresh and exclusive and before_exclusive;
end
$$;

-- What is placed last waits for every conflicting claim that is not in the line.
create function queue.own_edges(p_resource integer[], p_task bigint[], p_exclusive boolean[])
  returns table (task bigint, prerequisite bigint)
  language sql set search_path = pg_catalog, pg_temp as $$
  select distinct f.task, c.task
  from unnest(p_resource, p_task, p_exclusive) as f(resource, task, exclusive)
  join queue.claim c on c.resource = f.resource and c.own and (c.exclusive or f.exclusive) and c.task <> f.task
$$;

-- Sets the counters of new tasks to what they should be. For rare paths: ends count down instead. Their wait rows are locked, so
-- that an end which has not counted down yet does so after us.
create function queue.recount(p_tasks bigint[]) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform from queue.wait where task = any (p_tasks) order by task for update;
  update queue.wait w set unmet = c.unmet, behind = c.behind,
    doomed_by = case when w.doomed_by = w.task then w.doomed_by else c.doomed_by end
  from (
    select w2.task,
      count(p.prerequisite) filter (where b.outcome is null or (p.needs = 'complete' and b.outcome <> 'complete')) as unmet,
      min(b.id) filter (where p.needs = 'complete' and b.outcome <> 'complete') as doomed_by,
      count(x.task) as behind
    from (select distinct u.task from unnest(p_tasks) as u(task)) w2
    left join queue.prerequisite p on p.task = w2.task
    left join queue.task b on b.id = p.prerequisite
    left join queue.wait x on x.task = p.prerequisite and x.position is null
    group by w2.task
  ) c
  where w.task = c.task;
end
$$;

-- Moves those of `p_tasks` that nothing holds back any more from wait to ready. Returns how many. What is limited queues for its
-- units; grants come last in the lock order.
create function queue.make_ready(p_tasks bigint[]) returns integer
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  made integer;
  scarce bigint[];
  freed text[];
begin
  with clear as (
    delete from queue.wait
    where task = any (p_tasks) and unmet = 0 and barred = 0 and doomed_by is null and position is not null and not limited
    returning task, priority, position, attempts, started
  )
  insert into queue.ready (task, rank, position, attempts, started, since)
  select task, -priority, position, attempts, started, queue.now() from clear;
  get diagnostics made = row_count;
  if exists (select from queue.cost where task = any (p_tasks) and not granted) then
    select array_agg(w.task) into scarce from queue.wait w
      where w.task = any (p_tasks) and w.unmet = 0 and w.doomed_by is null and w.position is not null and w.limited
        and w.barred = (select count(*) from queue.parked p where p.task = w.task and p.key = 'limit');
    if scarce is not null then
      made := made + queue.queue_for_units(scarce);
    end if;
    -- Who queues, but must wait for something else after all, keeps those behind it from nothing.
    select array_agg(distinct c.key) into freed from queue.cost c where c.task = any (p_tasks) and c.queued;
    if freed is not null then
      perform from queue.limit_lock for update;
      made := made + queue.grant_units(freed);
    end if;
  end if;
  return made;
end
$$;

-- The reverse, for what must wait again. A row that a claim has just taken is not there any more: then the task has begun. What waits
-- already queues for no units until the caller makes ready what it may: else it would be granted those that another of them gives back.
create function queue.make_wait(p_tasks bigint[]) returns bigint[]
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  moved bigint[];
begin
  perform from queue.ready where task = any (p_tasks) order by task for update;
  with back as (
    delete from queue.ready where task = any (p_tasks) returning task, rank, position, attempts, started
  ), kept as (
    insert into queue.wait (task, unmet, attempts, started, limited, priority, position)
    select b.task, 0, b.attempts, b.started, exists (select from queue.cost c where c.task = b.task), -b.rank, b.position
    from back b returning task
  )
  select coalesce(array_agg(task), '{}') into moved from kept;
  perform queue.give_back(array(select task from queue.wait where task = any (p_tasks)));
  return moved;
end
$$;

-- One row a transaction. Another call in the same transaction adds to it.
create function queue.tell(
  p_submitted bigint[] default '{}', p_started bigint[] default '{}', p_ended bigint[] default '{}', p_changed bigint[] default '{}'
) returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  insert into queue.event (id, at, submitted, started, ended, changed)
  values (pg_current_xact_id()::text::bigint, queue.now(), p_submitted, p_started, p_ended, p_changed)
  on conflict (id) do update set
    submitted = event.submitted || excluded.submitted, started = event.started || excluded.started,
    ended = event.ended || excluded.ended, changed = event.changed || excluded.changed;
  if coalesce(current_setting('taskomatic.notify', true), '') <> 'off' then
    perform pg_notify('queue_event', '');
  end if;
end
$$;

-- Something became ready, or a running task is asked to stop. Of equal notifications of one transaction PostgreSQL sends one.
create function queue.wake() returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if coalesce(current_setting('taskomatic.notify', true), '') <> 'off' then
    perform pg_notify('queue_ready', '');
  end if;
end
$$;

create function queue.note(p_task bigint, p_message text, p_data jsonb default null, p_level text default 'info') returns void
  language sql set search_path = pg_catalog, pg_temp as $$
  insert into queue.log (task, at, level, message, data) values (p_task, queue.now(), p_level, p_message, p_data)
$$;

-- Limits. Units are granted on the way into ready and given back when a task leaves it for anything but run, or leaves run.
-- One lock row for all of them: a task that needs two keys gets both or none, and no order of keys can deadlock.
create function queue.queue_for_units(p_tasks bigint[]) returns integer
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform from queue.limit_lock for update;
  update queue.cost c set queued = true, position = w.position from queue.wait w where w.task = c.task and c.task = any (p_tasks);
  with aside as (
    insert into queue.parked (task, key, reason, since)
    select task, 'limit', 'waiting for ' || string_agg(format('%s of %s', units, key), ', ' order by key), queue.now()
    from queue.cost where task = any (p_tasks) group by task
    on conflict (task) do nothing returning task
  )
  update queue.wait w set barred = barred + 1 from aside where w.task = aside.task;
  return queue.grant_units((select array_agg(distinct key) from queue.cost where task = any (p_tasks)));
end
$$;

create function queue.give_back(p_tasks bigint[]) returns integer
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  keys text[];
begin
  if not exists (select from queue.cost where task = any (p_tasks) and (granted or queued)) then
    return 0;
  end if;
  perform from queue.limit_lock for update;
  with freed as (
    update queue.cost set granted = false, queued = false where task = any (p_tasks) and (granted or queued) returning key
  )
  select array_agg(distinct key) into keys from freed;
  -- Who no longer queues is not parked for it.
  with aside as (
    delete from queue.parked where task = any (p_tasks) and key = 'limit' returning task
  )
  update queue.wait w set barred = barred - 1 from aside where w.task = aside.task;
  return queue.grant_units(keys);
end
$$;

-- In order of priority and position. On a key nobody overtakes who lacks it: else the wide tasks would starve; who lacks another
-- key is passed by. Under limit_lock. Keys without any room are left out before anything is read of them: 200 that queue for one
-- key would else be looked at by every end of one of them.
create function queue.grant_units(p_keys text[]) returns integer
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  queued refcursor;
  candidate bigint;
  its_keys text[];
  lacking text[];
  keys text[];
  full_keys text[] := '{}';
  made integer := 0;
begin
  select array_agg(k) into keys from unnest(p_keys) as k
    where queue.room(k) > 0 and exists (select from queue.cost c where c.queued and c.key = k);
  if keys is null then
    return 0;
  end if;
  if cardinality(keys) = 1 then
    -- Along the index, as far as there is room: of 10,000 that queue one is read.
    open queued for select c.task, null::text[] from queue.cost c where c.queued and c.key = keys[1] order by c.rank, c.position, c.task;
  else
    open queued for
      select c.task, array_agg(c.key) from queue.cost c where c.queued and c.key = any (keys)
      group by c.rank, c.position, c.task order by c.rank, c.position, c.task;
  end if;
  loop
    exit when full_keys @> keys;
    fetch queued into candidate, its_keys;
    exit when not found;
    continue when its_keys <@ full_keys;
    -- Held, or put behind a child, since it queued: it does not take part until that has passed. Who has its row is about to
    -- end or to place it, may be waiting for our lock, and asks again (make_ready, give_back) when that is done.
    perform from queue.wait
      where task = candidate and unmet = 0 and barred = 1 and doomed_by is null and position is not null for update skip locked;
    continue when not found;
    -- More than there ever is: it waits for the cap to be raised, and keeps nobody from what is left.
    continue when exists (
      select from queue.cost c where c.task = candidate and c.units > queue.cap_of(c.key));
    select coalesce(array_agg(c.key), '{}') into lacking from queue.cost c
      where c.task = candidate and (c.key = any (full_keys) or c.units > queue.room(c.key));
    if cardinality(lacking) > 0 then
      full_keys := full_keys || lacking;
      continue;
    end if;
    update queue.cost set granted = true, queued = false where task = candidate;
    delete from queue.parked where task = candidate and key = 'limit';
    with clear as (
      delete from queue.wait where task = candidate returning task, priority, position, attempts, started
    )
    insert into queue.ready (task, rank, position, attempts, started, since)
    select task, -priority, position, attempts, started, queue.now() from clear;
    made := made + 1;
  end loop;
  close queued;
  -- Whoever gave back may not look at what that made ready.
  if made > 0 then
    perform queue.wake();
  end if;
  return made;
end
$$;

-- The cap of a key: its own, else that of its kind (`starts/*` for `starts/h1`); null = none.
create function queue.cap_of(p_key text) returns integer
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select coalesce(
    (select cap from queue.cap where key = p_key),
    (select cap from queue.cap where key = split_part(p_key, '/', 1) || '/*'))
$$;

create function queue.room(p_key text) returns integer language sql set search_path = pg_catalog, pg_temp as $$
  select coalesce(queue.cap_of(p_key), 2147483647)
    - coalesce((select sum(units) from queue.cost where key = p_key and granted), 0)::integer
$$;

-- The units of a running task become exactly p_limits: true when it has them all. What it had and needs no more is given to others.
-- Nobody is overtaken: where others queue, it queues behind them.
create function queue.exchange_units(p_task bigint, p_limits jsonb, p_rank smallint, p_position bigint) returns boolean
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  freed text[];
  has_all boolean;
begin
  if not exists (
    select from (select c.key, c.units, c.granted from queue.cost c where c.task = p_task) had
    full join (select l.key, sum(l.units)::integer as units from jsonb_to_recordset(p_limits) as l(key text, units integer) group by l.key) needs
      on needs.key = had.key and needs.units = had.units
    where had.key is null or needs.key is null or not had.granted) then
    return true;
  end if;
  perform from queue.limit_lock for update;
  with gone as (
    delete from queue.cost c where c.task = p_task and not exists (
      select from jsonb_to_recordset(p_limits) as l(key text, units integer) where l.key = c.key group by l.key having sum(l.units) = c.units)
    returning c.key
  )
  select array_agg(key) into freed from gone;
  insert into queue.cost (task, key, units, rank, position)
  select p_task, l.key, sum(l.units), p_rank, p_position
  from jsonb_to_recordset(p_limits) as l(key text, units integer) group by l.key
  on conflict (task, key) do nothing;
  has_all := not exists (
    select from queue.cost c where c.task = p_task and not c.granted
      and (c.units > queue.room(c.key) or exists (select from queue.cost q where q.queued and q.key = c.key)));
  if has_all then
    update queue.cost set granted = true where task = p_task and not granted;
  end if;
  if freed is not null then
    perform queue.grant_units(freed);
  end if;
  return has_all;
end
$$;

-- A key without a cap of its own has its kind's, and without that room for all. The cap of a kind is that of `KIND/*`.
create function queue.set_cap(p_key text, p_cap integer) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  keys text[];
begin
  perform from queue.limit_lock for update;
  if p_cap is null then
    delete from queue.cap where key = p_key;
  else
    insert into queue.cap (key, cap) values (p_key, p_cap) on conflict (key) do update set cap = excluded.cap;
  end if;
  keys := array[p_key];
  if p_key like '%/*' then
    select array_agg(distinct c.key) into keys from queue.cost c
      where c.queued and split_part(c.key, '/', 1) || '/*' = p_key;
  end if;
  if keys is not null and queue.grant_units(keys) > 0 then
    perform queue.wake();
  end if;
end
$$;

grant execute on function queue.ensure_resources(text[]), queue.lock_resources(text[], boolean[]), queue.set_cap(text, integer),
  queue.cap_of(text)
  to taskomatic_client;
