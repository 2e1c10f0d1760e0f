-- Rewriting tasks that have not begun: other arguments, and what follows from them, in the same place in the queue. Who asks has
-- decided that the task is possible so; here it is only kept in order.
--
-- It keeps its position. Lines that it leaves close as they do for an unstarted end; what it newly claims is ordered pair by pair, as
-- a child's claims are (0008): after whatever has started there, after earlier positions, before later ones, and the other way
-- round where only that closes no circle. Edges that its old claims gave rise to stay: they hold nothing up for ever, and taking them
-- away would have to prove that nothing else stands for them.
--
-- p_rewrites: [{task, attempts, title, args, claims, effects, limits, message, data}]. `attempts` is how many it had had when it was
-- looked at: a task that has been tried since is answered `begun`. The expansion lock is taken, then all resources in one pass.
-- Answers: `rewritten`; `begun`: it runs, or was tried since; `ended`; `circle`: it would wait for itself. The last three change nothing.
create function queue.rewrite(p_rewrites jsonb, p_by text) returns table (task bigint, answer text)
  language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan set jit = off as $$
#variable_conflict use_column
declare
  t constant timestamptz := queue.now();
  tasks bigint[];
  n_task bigint[]; n_name text[]; n_exclusive boolean[];   -- claims that are new or have another mode
  left_task bigint[]; left_resource integer[];             -- claims that are given up
  e_task bigint[]; e_prerequisite bigint[];                -- edges that close what they leave
  others bigint[];
  still_open bigint[];
  begun bigint[];
  moved bigint[] := '{}';
  done bigint[] := '{}';
  one record;
  mine record;
  above bigint[];
  started bigint[]; earlier bigint[]; later bigint[]; first bigint[]; reached bigint[];
  reach bigint[];
  made integer;
begin
  if jsonb_array_length(p_rewrites) > 10000 then
    perform queue.refuse('too_many_tasks', 'at most 10,000 tasks are rewritten at once');
  end if;
  select array_agg(r.task order by r.task) into tasks from jsonb_to_recordset(p_rewrites) as r(task bigint);
  if tasks is null then
    return;
  end if;
  -- Neither bound nor expanded meanwhile: what claims what, and who has started, stays as it is.
  perform pg_advisory_xact_lock(7243003);

  with wanted as (
    select r.task, c.resource as name, bool_or(c.mode = 'exclusive') as exclusive
    from jsonb_to_recordset(p_rewrites) as r(task bigint, claims jsonb)
    cross join lateral jsonb_to_recordset(r.claims) as c(resource text, mode text) group by r.task, c.resource
  ), had as (
    select c.task, r.name, c.exclusive from queue.claim c join queue.resource r on r.id = c.resource where c.task = any (tasks)
  )
  select array_agg(w.task), array_agg(w.name), array_agg(w.exclusive) into n_task, n_name, n_exclusive
  from wanted w where not exists (
    select from had h where h.task = w.task and h.name = w.name collate "C" and h.exclusive = w.exclusive);
  select array_agg(c.task), array_agg(c.resource) into left_task, left_resource
  from queue.claim c join queue.resource r on r.id = c.resource
  where c.task = any (tasks) and not exists (
    select from jsonb_to_recordset(p_rewrites) as w(task bigint, claims jsonb)
    cross join lateral jsonb_to_recordset(w.claims) as k(resource text, mode text)
    where w.task = c.task and k.resource = r.name collate "C"
    group by w.task having bool_or(k.mode = 'exclusive') = c.exclusive);
  if exists (
    select from unnest(n_name) as w(name) where not exists (select from queue.resource r where r.name = w.name collate "C")) then
    perform queue.refuse('resource_missing', 'a resource of a rewritten task is not known yet');
  end if;
  -- As if exclusive: others are put behind, whatever their mode.
  perform from queue.resource r
    where r.id = any (left_resource) or r.name = any (n_name collate "C") order by r.name for update;

  if left_task is not null then
    -- Line by line: who leaves one may stay in another.
    select array_agg(e.task), array_agg(e.prerequisite) into e_task, e_prerequisite
    from (
      select resource, array_agg(task) as leaving from unnest(left_task, left_resource) as l(task, resource) group by resource
    ) l
    cross join lateral queue.closing_edges(l.leaving, array[l.resource]) e;
  end if;
  select array_agg(distinct k.task) into others
  from unnest(n_task, n_name, n_exclusive) as c(task, name, exclusive)
  join queue.resource r on r.name = c.name collate "C"
  join queue.claim k on k.resource = r.id and k.task <> c.task and (k.exclusive or c.exclusive) and k.position is not null;
  still_open := queue.lock_tasks(tasks, others || e_prerequisite);

  perform from queue.wait w
    where w.task = any (tasks || others || e_task)
      or w.task in (select p.task from queue.prerequisite p where p.prerequisite = any (tasks)) order by w.task for update;
  moved := queue.make_wait(array(select o from unnest(tasks || others) as o where o = any (still_open)));
  select coalesce(array_agg(r.task), '{}') into begun from queue.run r where r.task = any (others);
  select begun || coalesce(array_agg(w.task), '{}') into begun
    from queue.wait w where w.task = any (others) and w.started and w.task <> all (tasks);

  for one in
    select r.*, coalesce(x.path, array[w.position]) as path, w.position, w.attempts as had, x.outcome, w.task as waits
    from jsonb_to_recordset(p_rewrites) as r(
      task bigint, attempts integer, title text, args jsonb, claims jsonb, effects jsonb, limits jsonb, message text, data jsonb)
    left join queue.task x on x.id = r.task
    left join queue.wait w on w.task = r.task
    order by coalesce(x.path, array[w.position]), r.task
  loop
    task := one.task;
    if one.task <> all (still_open) then
      answer := 'ended';
      return next;
      continue;
    end if;
    if one.waits is null or one.had <> one.attempts
      or exists (select from queue.family f where f.parent = one.task)
      or exists (select from queue.cancel_request c where c.task = one.task) then
      answer := 'begun';
      return next;
      continue;
    end if;

    above := queue.ancestors(one.task);
    started := null; earlier := null; later := null; first := null; reached := null;
    if one.position is not null then
      select array_agg(o.task) filter (where o.task = any (begun)),
        array_agg(o.task) filter (where o.task <> all (begun) and o.path < one.path),
        array_agg(o.task) filter (where o.task <> all (begun) and o.path > one.path)
      into started, earlier, later
      from (
        select distinct k.task, coalesce(x.path, array[p.position]) as path
        from unnest(n_task, n_name, n_exclusive) as c(task, name, exclusive)
        join queue.resource r on r.name = c.name collate "C"
        join queue.claim k on k.resource = r.id and (k.exclusive or c.exclusive)
        join queue.place p on p.task = k.task
        join queue.task x on x.id = k.task
        where c.task = one.task and k.task <> all (above) and k.position is not null and k.task = any (still_open)
      ) o;
      reach := case when started is null then '{}' else queue.reached_from(started) end;
      if one.task = any (reach) then
        answer := 'circle';
        return next;
        continue;
      end if;
      -- Those of the earlier ones that wait for it already come after it.
      select array_agg(e) filter (where one.task = any (queue.reached_from(array[e]))),
        array_agg(e) filter (where one.task <> all (queue.reached_from(array[e])))
      into first, earlier from unnest(earlier) as e;
      reach := queue.reached_from(array[one.task] || started || earlier);
      -- What it reaches through others it waits for itself: these may be cancelled or held.
      reached := array(select l from unnest(later) as l where l = any (reach));
      later := array(select l from unnest(later) as l where l <> all (reach));
    end if;

    delete from queue.claim c using unnest(left_task, left_resource) as l(task, resource)
      where c.task = one.task and l.task = c.task and l.resource = c.resource;
    insert into queue.claim (task, resource, position, exclusive, own)
    select one.task, r.id, one.position, c.exclusive, one.position is not null
    from unnest(n_task, n_name, n_exclusive) as c(task, name, exclusive)
    join queue.resource r on r.name = c.name collate "C" where c.task = one.task;
    delete from queue.effect e where e.task = one.task;
    insert into queue.effect (task, ordinal, subject)
    select one.task, f.ordinal - 1, f.effect ->> 'subject'
    from jsonb_array_elements(one.effects) with ordinality as f(effect, ordinal);
    perform queue.give_back(array[one.task]);
    delete from queue.cost c where c.task = one.task;
    insert into queue.cost (task, key, units, rank, position)
    select one.task, l.key, sum(l.units), -w.priority, w.position
    from jsonb_to_recordset(one.limits) as l(key text, units integer) join queue.wait w on w.task = one.task
    group by l.key, w.priority, w.position;
    update queue.task x set title = one.title, args = one.args, claims = one.claims, effects = one.effects,
      limits = case when jsonb_array_length(one.limits) > 0 then one.limits end
      where x.id = one.task;
    -- What it was bound to, and what it was parked for, was said of what it is no longer.
    delete from queue.bound b where b.task = one.task;
    with aside as (delete from queue.parked p where p.task = one.task returning p.task)
    update queue.wait w set started = false, barred = w.barred - (select count(*) from aside),
      limited = jsonb_array_length(one.limits) > 0
      where w.task = one.task;

    insert into queue.prerequisite (task, prerequisite, needs, derived)
    select one.task, p, 'ended', true from unnest(started || earlier || reached) as p on conflict do nothing;
    insert into queue.prerequisite (task, prerequisite, needs, derived)
    select l, one.task, 'ended', true from unnest(later || first) as l on conflict do nothing;
    perform queue.note(one.task, one.message, one.data);
    done := done || one.task;
    answer := 'rewritten';
    return next;
  end loop;

  perform queue.add_edges(e_task, e_prerequisite, still_open);
  perform queue.recount(tasks || others || e_task);
  -- The others as well: whoever granted units passed over those whose rows we hold.
  made := queue.make_ready(tasks || others || e_task);
  perform queue.tell(p_changed => done || moved);
  if made > 0 then
    perform queue.wake();
  end if;
end
$$;

-- Who decides on rewrites first keeps everybody else from what they are about: nothing is bound or expanded, nothing that claims one of
-- these resources is submitted, until the transaction ends.
create function queue.lock_for_rewriting(p_names text[]) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform pg_advisory_xact_lock(7243003);
  perform from queue.resource where name = any (p_names collate "C") order by name for update;
end
$$;

grant execute on function queue.rewrite(jsonb, text), queue.lock_for_rewriting(text[]) to taskomatic_client;
