-- What every start does, in one round trip each: its memory is promised, and what running tasks say is written in batches.

-- Promises memory for a VM on a host that is given, if it has room and no VM that this one is kept apart from. Without success
-- nothing is promised and the host's row is not kept locked: whoever held two hosts' rows could wait for another who holds them the
-- other way round.
create function inventory.reserve(p_task bigint, p_host text, p_vm uuid, p_memory_mib bigint) returns table (
  reserved boolean, free_mib bigint, expected_free_mib bigint, need_mib bigint, is_there boolean, apart_from text, kept_apart text
)
language plpgsql set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  found_host record;
begin
  reserved := false;
  select l.value into kept_apart from inventory.vm_label l where l.vm = p_vm and l.key = 'anti-affinity';
  begin
    perform from inventory.host h where h.name = p_host for no key update;
    -- A later statement than the lock: what was promised while we waited is seen.
    select * into found_host from inventory.candidates(
      array[p_host], p_vm, p_task, p_memory_mib, '{}'::text[], '{}'::text[], kept_apart, false);
    if found_host.host is null
      or not (found_host.is_there or (found_host.apart_from is null and found_host.free_mib >= found_host.need_mib)) then
      raise exception using errcode = 'TKNRM', message = 'no room';
    end if;
    if not found_host.is_there then
      insert into inventory.reservation as r (task, host, vm, memory_mib) values (p_task, p_host, p_vm, found_host.need_mib)
      on conflict (task) do update set
        host = excluded.host, vm = excluded.vm, memory_mib = excluded.memory_mib, made_at = clock_timestamp();
    end if;
    reserved := true;
  exception when sqlstate 'TKNRM' then
    null;
  end;
  if found_host.host is null then
    return;
  end if;
  free_mib := found_host.free_mib;
  expected_free_mib := found_host.expected_free_mib;
  need_mib := found_host.need_mib;
  is_there := found_host.is_there;
  apart_from := found_host.apart_from;
  return next;
end;
$$;
grant execute on function inventory.reserve(bigint, text, uuid, bigint) to taskomatic_client;

-- Lines as append_log takes them, with how long ago each was said, in the order in which they were.
create function queue.append_logs(p_lines jsonb) returns void
  language sql security definer set search_path = pg_catalog, pg_temp as $$
  insert into queue.log (task, attempt, at, level, message, data)
  select l.task, l.attempt, queue.now() - make_interval(secs => l."agoMs" / 1000.0), l.level, l.message, l.data
  from rows from (jsonb_to_recordset(p_lines) as (
    task bigint, attempt integer, "agoMs" float8, level text, message text, data jsonb)) with ordinality
    as l(task, attempt, "agoMs", level, message, data, ordinal)
  order by l.ordinal
$$;
grant execute on function queue.append_logs(jsonb) to taskomatic_client;
