-- How what a task does would be undone: written before it is done, so that whoever undoes it needs nobody's memory.

-- The first attempt's word stays: later ones may see what it has changed.
create function queue.keep_undo(p_task bigint, p_attempt integer, p_step jsonb) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  insert into queue.undo_step (task, attempt, step, at)
  select p_task, p_attempt, p_step, queue.now() where queue.attempt_holds(p_task, p_attempt)
  on conflict (task) do nothing;
  return found;
end
$$;

-- Of ended tasks, what became of their undoing, by the word of a running one.
create function queue.set_undo_states(p_by bigint, p_attempt integer, p_tasks bigint[], p_states queue.undo_state[]) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if not queue.attempt_holds(p_by, p_attempt) then
    perform queue.refuse('stale_attempt', format('attempt %s of task %s is over', p_attempt, p_by), array[p_by]);
  end if;
  perform from queue.task where id = any (p_tasks) order by id for update;
  update queue.task t set undo_state = u.state
    from unnest(p_tasks, p_states) as u(task, state) where t.id = u.task and t.id = any (p_tasks) and t.outcome is not null;
  perform queue.tell(p_changed => p_tasks);
end
$$;

grant execute on function queue.keep_undo(bigint, integer, jsonb), queue.set_undo_states(bigint, integer, bigint[], queue.undo_state[]) to taskomatic_client;
