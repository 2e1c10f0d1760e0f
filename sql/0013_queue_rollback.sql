-- Plans that are undone when a part fails: the plan is a task, its parts are that task's children, and so are, later, the tasks that
-- undo them (their `undo` names what they undo). The plan's task holds all claims from the first part to the last undoing.

-- Once a part has ended badly, those that have not begun are cancelled. What undoes parts is no part. Returns how many it ended.
create function queue.stop_failing() returns integer
  language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  parts bigint[];
  errors jsonb[];
begin
  select array_agg(c.id order by c.id), array_agg(jsonb_build_object('code', 'plan_failed',
      'message', format('not begun, since task %s of its plan has ended as %s', bad.id, bad.outcome)) order by c.id)
    into parts, errors
  from queue.family f
  join queue.task p on p.id = f.parent and p.parent is null
  join queue.plan l on l.id = p.plan and l.on_failure = 'rollback'
  cross join lateral (
    select b.id, b.outcome from queue.task b
    where b.parent = f.parent and b.outcome in ('failed', 'cancelled') and b.undo is null order by b.id limit 1) bad
  join queue.task c on c.parent = f.parent and c.outcome is null and c.undo is null
  where f.open > 0 and not exists (select from queue.run r where r.task = c.id);
  if parts is null then
    return 0;
  end if;
  return cardinality(queue.end_unstarted(parts, 'cancelled', errors));
end
$$;

-- What it promised will not come about: nobody is accepted on the strength of it any more.
create function queue.drop_effects(p_task bigint, p_attempt integer) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  delete from queue.effect where task = p_task
    and queue.attempt_holds(p_task, p_attempt);
  return found;
end
$$;
grant execute on function queue.stop_failing(), queue.drop_effects(bigint, integer) to taskomatic_client;
