-- An operator's word on a task of which nobody can tell whether it happened: it ends by that, and who said so is kept for good.

create table queue.verdict (
  id bigint primary key generated always as identity,
  task bigint not null,
  attempt integer not null,
  happened boolean not null,
  given_by text not null,
  reason text not null,
  evidence jsonb,        -- what was known when it was given
  at timestamptz not null
);
create index verdict_of_task on queue.verdict (task);
grant select on queue.verdict to taskomatic_client;

-- Ends it as complete, or as failed: what did not happen may be tried again by a retry, which is somebody's decision too.
create function queue.give_verdict(p_task bigint, p_happened boolean, p_by text, p_reason text) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  t constant timestamptz := queue.now();
  locked bigint[];
  gone record;
  made integer;
begin
  locked := queue.lock_tasks(array[p_task], '{}');
  if cardinality(locked) = 0 then
    perform queue.refuse(case when exists (select from queue.task x where x.id = p_task) then 'already_ended' else 'task_not_found' end,
      case when exists (select from queue.task x where x.id = p_task) then format('task %s has ended', p_task)
        else format('task %s not found', p_task) end, array[p_task]);
  end if;
  delete from queue.run r where r.task = p_task and r.phase = 'uncertain'
    returning r.attempt, r.started_at, r.evidence into gone;
  if gone.attempt is null then
    perform queue.refuse('not_uncertain',
      format('task %s is not uncertain: a verdict is given only where nobody can tell whether it happened', p_task), array[p_task]);
  end if;
  insert into queue.verdict (task, attempt, happened, given_by, reason, evidence, at)
  values (p_task, gone.attempt, p_happened, p_by, p_reason, gone.evidence, t);
  update queue.task x set outcome = case when p_happened then 'complete' else 'failed' end::queue.state,
    attempts = gone.attempt, started_at = gone.started_at, ended_at = t,
    result = case when p_happened then jsonb_build_object('verdict', 'happened', 'by', p_by, 'reason', p_reason) end,
    error = case when not p_happened then jsonb_build_object('code', 'verdict_did_not',
      'message', format('%s said that it did not happen: %s', p_by, p_reason), 'next', format('try it again: `taskomatic task retry %s`', p_task)) end
    where x.id = p_task;
  made := queue.after_ends(case when p_happened then array[p_task] else '{}' end, case when p_happened then '{}' else array[p_task] end);
  perform queue.note(p_task, format('%s gave the verdict: it %s', p_by, case when p_happened then 'happened' else 'did not happen' end),
    jsonb_build_object('reason', p_reason), 'warn');
  perform queue.tell(p_ended => array[p_task]);
  if made > 0 then
    perform queue.wake();
  end if;
end
$$;
grant execute on function queue.give_verdict(bigint, boolean, text, text) to taskomatic_client;
