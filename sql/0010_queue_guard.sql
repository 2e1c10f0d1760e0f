-- The guard: holds the definition against what events have made of it, and repairs what they missed. On a healthy run it finds
-- nothing; a find is logged loudly and counted. And what the queue writes for people: log, progress.

create table queue.guard_find (
  id bigint primary key generated always as identity,
  at timestamptz not null,
  kind text not null,
  task bigint not null,
  about jsonb not null
);
grant select on queue.guard_find to taskomatic_client;

-- Counted for good, and told in the task's own log.
create function queue.note_find(p_kind text, p_task bigint, p_about jsonb) returns void
  language sql set search_path = pg_catalog, pg_temp as $$
  insert into queue.guard_find (at, kind, task, about) values (queue.now(), p_kind, p_task, p_about);
  insert into queue.log (task, at, level, message, data)
    values (p_task, queue.now(), 'error', 'the guard poll found it: ' || p_kind, p_about);
$$;

-- One slice of ids: runnable but not ready is moved to ready; ready but not runnable, counters that do not count, claims and places
-- of what has ended are told. Returns where the next slice begins; null at the end.
create function queue.audit_slice(p_from bigint, p_size integer)
  returns table (next_task bigint, kind text, task bigint, about jsonb)
  language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan set jit = off as $$
#variable_conflict use_column
declare
  slice bigint[];
  find record;
  finds jsonb := '[]';
  rescued bigint[] := '{}';
begin
  -- Open tasks only: partitions full of ended ones are not walked through every few seconds.
  select array_agg(s.task) into slice from (
    select p.task from queue.place p where p.task >= p_from order by p.task limit p_size) s;
  next_task := case when cardinality(slice) = p_size then slice[cardinality(slice)] + 1 end;
  if slice is not null then
    -- One statement, one snapshot: each row of the result is a contradiction within the database, not a race.
    for find in
      with open as (
        select t.id as task, t.outcome, w.task is not null as waits, q.task is not null as is_ready, r.task is not null as runs,
          w.unmet, w.barred, w.position, w.doomed_by, exists (select from queue.runnable x where x.task = t.id) as is_runnable,
          (select count(*) from queue.prerequisite p join queue.task b on b.id = p.prerequisite
            where p.task = t.id and (b.outcome is null or (p.needs = 'complete' and b.outcome <> 'complete'))) as really_unmet,
          (select count(*) from queue.parked p where p.task = t.id) + (select count(*) from queue.held h where h.task = t.id)
            + (select count(*) from queue.scheduled s where s.task = t.id) as really_barred
        from queue.task t
        left join queue.wait w on w.task = t.id left join queue.ready q on q.task = t.id left join queue.run r on r.task = t.id
        where t.id = any (slice)
      )
      select o.task, case
          when o.outcome is not null then 'ended_but_open'
          when o.waits::integer + o.is_ready::integer + o.runs::integer <> 1 then 'not_one_place'
          when o.waits and o.is_runnable and o.position is not null and o.barred = 0 and o.doomed_by is null then 'missed'
          when o.is_ready and not o.is_runnable then 'ready_but_not_runnable'
          when o.waits and (o.unmet <> o.really_unmet or o.barred <> o.really_barred) then 'miscounted'
        end as kind, to_jsonb(o) as about
      from open o
      -- What has ended since the slice was taken has no place any more: that is no find.
      where (o.outcome is not null and (o.waits or o.is_ready or o.runs)) or (o.outcome is null and (
        o.waits::integer + o.is_ready::integer + o.runs::integer <> 1
        or (o.waits and o.is_runnable and o.position is not null and o.barred = 0 and o.doomed_by is null)
        or (o.is_ready and not o.is_runnable)
        or (o.waits and (o.unmet <> o.really_unmet or o.barred <> o.really_barred))))
    loop
      finds := finds || jsonb_build_object('task', find.task, 'kind', find.kind, 'about', find.about);
      if find.kind in ('missed', 'miscounted') then
        rescued := rescued || find.task;
      end if;
    end loop;
  end if;
  if cardinality(rescued) > 0 then
    perform queue.recount(rescued);
    update queue.wait w set barred = (select count(*) from queue.parked p where p.task = w.task)
      + (select count(*) from queue.held h where h.task = w.task) + (select count(*) from queue.scheduled s where s.task = w.task)
      where w.task = any (rescued);
    if queue.make_ready(rescued) > 0 then
      perform queue.wake();
    end if;
  end if;
  perform queue.note_find(f.kind, f.task, f.about) from jsonb_to_recordset(finds) as f(task bigint, kind text, about jsonb);
  return query select next_task, f.kind, f.task, f.about from jsonb_to_recordset(finds) as f(task bigint, kind text, about jsonb);
  if jsonb_array_length(finds) = 0 then
    return next;
  end if;
end
$$;

-- The next slice of a walk that never ends, and what only a look at the whole tells.
create function queue.guard_poll(p_size integer default 5000) returns table (kind text, task bigint, about jsonb)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  from_task bigint;
  found_row record;
  next_from bigint := 0;
  parked bigint[];
  lost bigint[];
begin
  perform queue.add_partitions();
  -- Whoever comes second looks elsewhere next time.
  select a.next_task into from_task from queue.audit a for update skip locked;
  if from_task is null then
    return;
  end if;
  for found_row in select * from queue.audit_slice(from_task, p_size) loop
    next_from := coalesce(found_row.next_task, 0);
    if found_row.kind is not null then
      kind := found_row.kind; task := found_row.task; about := found_row.about;
      return next;
    end if;
  end loop;
  update queue.audit set next_task = next_from;

  -- Claims of what has ended: there must be none, whatever happened on the way.
  for task in
    select distinct c.task from queue.claim c join queue.task x on x.id = c.task and x.outcome is not null limit 100
  loop
    kind := 'claim_of_ended'; about := '{}';
    delete from queue.claim c where c.task = guard_poll.task;
    perform queue.note_find(kind, task, about);
    return next;
  end loop;
  -- Parked for units that are there, or queued for none: nothing would wake it any more.
  if exists (select from queue.parked where key = 'limit') then
    perform from queue.limit_lock for update;
    parked := array(
      select w.task from queue.wait w join queue.parked p on p.task = w.task and p.key = 'limit'
      where w.unmet = 0 and w.barred = 1 and w.doomed_by is null);
    lost := array(
      select w.task from queue.wait w where w.task in (
        select c.task from queue.cost c where c.task = any (parked) and not c.queued and not c.granted)
      for update skip locked);
    update queue.cost set queued = true where task = any (lost);
    -- Who is granted something now was forgotten; who stands behind one that needs more than there is, was not.
    if queue.grant_units(array(select distinct key from queue.cost where task = any (parked))) > 0 then
      for task in select r.task from queue.ready r where r.task = any (parked) order by 1 loop
        kind := 'parked_beside_free_units'; about := '{}';
        perform queue.note_find(kind, task, about);
        return next;
      end loop;
      perform queue.wake();
    end if;
  end if;
  -- A parent that awaits children although all have ended.
  for task in
    select r.task from queue.run r
    where r.phase = 'awaiting' and r.dispatcher is null
      and not exists (select from queue.task c where c.parent = r.task and c.outcome is null)
  loop
    kind := 'missed'; about := '{"awaiting": "children"}';
    perform queue.resume_parents(array[task]);
    perform queue.wake();
    perform queue.note_find(kind, task, about);
    return next;
  end loop;
end
$$;

-- What running tasks say, in the order in which they did, with how long ago each was said. What attempts say that are no longer their
-- tasks', or whose dispatcher has lost its lease, is not written.
create function queue.append_logs(p_lines jsonb) returns void
  language sql security definer set search_path = pg_catalog, pg_temp as $$
  with living as materialized (
    select id from queue.dispatcher where expires_at > queue.now() for key share
  )
  insert into queue.log (task, attempt, at, level, message, data)
  select l.task, l.attempt, queue.now() - make_interval(secs => l."agoMs" / 1000.0), l.level, l.message, l.data
  from rows from (jsonb_to_recordset(p_lines) as (
    task bigint, attempt integer, "agoMs" float8, level text, message text, data jsonb)) with ordinality
    as l(task, attempt, "agoMs", level, message, data, ordinal)
  where exists (
    select from queue.run r where r.task = l.task and r.attempt = l.attempt
      and (r.phase <> 'running' or r.dispatcher in (select id from living)))
  order by l.ordinal
$$;

-- A late word of a past attempt does not replace a newer one.
create function queue.set_progress(p_task bigint, p_attempt integer, p_progress jsonb) returns void
  language sql security definer set search_path = pg_catalog, pg_temp as $$
  insert into queue.progress as p (task, attempt, progress, at)
  select p_task, p_attempt, p_progress, queue.now() where queue.attempt_holds(p_task, p_attempt)
  on conflict (task) do update set attempt = excluded.attempt, progress = excluded.progress, at = excluded.at
  where p.attempt <= excluded.attempt
$$;

-- Forgets what is only of passing interest. In slices; returns how many rows went.
create function queue.prune(p_events interval default '1 hour', p_idempotency interval default '7 days') returns integer
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  gone integer;
  more integer;
begin
  -- The oldest only: with nothing to forget, all of them would be looked at.
  delete from queue.event where id in (
    select e.id from (select id, at from queue.event order by id limit 10000) e where e.at < queue.now() - p_events);
  get diagnostics gone = row_count;
  delete from queue.idempotency where key in (select key from queue.idempotency where at < queue.now() - p_idempotency limit 10000);
  get diagnostics more = row_count;
  return gone + more;
end
$$;

grant execute on function
  queue.audit_slice(bigint, integer), queue.guard_poll(integer), queue.append_logs(jsonb),
  queue.set_progress(bigint, integer, jsonb), queue.prune(interval, interval)
  to taskomatic_client;
