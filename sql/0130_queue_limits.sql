-- Limits, further: a cap for every key of a kind, and units that are known only when a task is bound (where it was placed).

-- The cap of a key: its own, else that of its kind (`starts/*` for `starts/h1`); null = none.
create function queue.cap_of(p_key text) returns integer
  language sql stable set search_path = pg_catalog, pg_temp as $$
  select coalesce(
    (select cap from queue.cap where key = p_key),
    (select cap from queue.cap where key = split_part(p_key, '/', 1) || '/*'))
$$;

create or replace function queue.room(p_key text) returns integer language sql set search_path = pg_catalog, pg_temp as $$
  select coalesce(queue.cap_of(p_key), 2147483647)
    - coalesce((select sum(units) from queue.cost where key = p_key and granted), 0)::integer
$$;

-- A key without a cap of its own has its kind's, and without that room for all. The cap of a kind is that of `KIND/*`.
create or replace function queue.set_cap(p_key text, p_cap integer) returns void
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

-- In order of priority and position. On a key nobody overtakes who lacks it: else the wide tasks would starve; who lacks another
-- key is passed by. Under limit_lock. Keys without any room are left out before anything is read of them: 200 that queue for one
-- key would else be looked at by every end of one of them.
create or replace function queue.grant_units(p_keys text[]) returns integer
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

-- 'started'; 'waiting' (with whom for: it is back among the waiting, its attempt is over); 'limited' (the same, parked until it has
-- its units); 'stale'; 'lease_lost'. p_limits: its units become exactly these; null leaves them.
drop function queue.bind(bigint, bigint, integer, text[], boolean[], jsonb);
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
  join queue.claim k on k.resource = r.id and (k.exclusive or c.exclusive)
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

-- What an operator would want before he has thought of it. `limit set` changes them.
insert into queue.cap (key, cap) values ('migrations-out/*', 2), ('migrations-in/*', 2), ('starts/*', 8), ('storage/*', 4);

grant execute on function
  queue.cap_of(text), queue.bind(bigint, bigint, integer, text[], boolean[], jsonb, jsonb), queue.note_unbound(bigint, bigint, integer, jsonb)
  to taskomatic_client;
