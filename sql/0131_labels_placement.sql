-- Labels of VMs and hosts, and what placement takes from them.

create table inventory.vm_label (
  vm uuid not null references inventory.vm on delete cascade,
  key text not null,
  value text not null,
  primary key (vm, key)
);
create index vm_label_value on inventory.vm_label (key, value);

create table inventory.host_label (
  host text not null references inventory.host on delete cascade,
  key text not null,
  value text not null,
  primary key (host, key)
);
create index host_label_value on inventory.host_label (key, value);

-- VMs with one value of the label `anti-affinity` are never active on one host. The name of one such VM that is active on a host,
-- or about to be; with p_resting also of one that is defined there: two that are made on one host could not both start there.
create function inventory.kept_apart(p_vm uuid, p_host text, p_group text, p_resting boolean) returns text
language sql stable
return (
  select coalesce(v.name, w.vm::text)
  from inventory.vm_label l
  join (
    select a.vm, a.host from inventory.whereabouts a
      where a.host = p_host and (a.state in ('active', 'unknown') or (p_resting and a.state = 'defined'))
    union all
    select r.vm, r.host from inventory.reservation r where r.host = p_host
  ) w on w.vm = l.vm
  left join inventory.vm v on v.uuid = w.vm
  where l.key = 'anti-affinity' and l.value = p_group and l.vm <> p_vm
  order by 1 limit 1
);

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

-- The same for many tasks at once, and only where nothing speaks against it: who shares a host is counted in the order given, and what a
-- label keeps apart is left to reserve(), as is whatever gets no room here.
create function inventory.reserve_many(p_tasks bigint[], p_hosts text[], p_vms uuid[], p_memory_mib bigint[]) returns table (
  task bigint, reserved boolean, free_mib bigint, expected_free_mib bigint, need_mib bigint, is_there boolean
)
language plpgsql set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  -- By name: of two who want several hosts one waits for the other.
  perform from inventory.host h where h.name = any (p_hosts) order by h.name for no key update;
  -- A later statement than the locks: what was promised while we waited is seen.
  return query
  with asked as (
    select a.task, a.host, a.vm, inventory.need_mib(a.memory_mib) as mib, a.ordinal, w.state, inventory.need_mib(w.max_memory_mib) as own_mib,
      exists (select from inventory.vm_label l where l.vm = a.vm and l.key = 'anti-affinity') as is_kept_apart
    from unnest(p_tasks, p_hosts, p_vms, p_memory_mib) with ordinality as a (task, host, vm, memory_mib, ordinal)
    left join inventory.whereabouts w on w.vm = a.vm and w.host = a.host and w.state in ('active', 'defined')
  ), room as (
    select h.name, coalesce(l.resting_mib, 0) as resting,
      inventory.usable_mib(coalesce(h.memory_mib, 0)) - coalesce(l.active_mib, 0) - coalesce((
        select sum(r.memory_mib)::bigint from inventory.reservation r
        where r.host = h.name and r.task <> all (p_tasks)
          and not exists (select from inventory.whereabouts w where w.vm = r.vm and w.host = r.host and w.state = 'active')), 0) as free
    from inventory.host h left join inventory.host_load l on l.host = h.name
    where h.name = any (p_hosts)
  ), counted as (
    select a.*, r.resting, coalesce(a.state = 'active', false) as is_there,
      r.free - coalesce(sum(case when a.state = 'active' then 0 else a.mib end) over (
        partition by a.host order by a.ordinal rows between unbounded preceding and 1 preceding), 0)::bigint as free
    from asked a join room r on r.name = a.host
  ), promised as (
    insert into inventory.reservation as r (task, host, vm, memory_mib)
    select c.task, c.host, c.vm, c.mib from counted c where not c.is_there and not c.is_kept_apart and c.free >= c.mib
    on conflict (task) do update set
      host = excluded.host, vm = excluded.vm, memory_mib = excluded.memory_mib, made_at = clock_timestamp()
  )
  select c.task, c.is_there or (not c.is_kept_apart and c.free >= c.mib), c.free + case when c.is_there then c.own_mib else 0 end,
    c.free - c.resting + case when c.state = 'defined' then c.own_mib when c.is_there then c.own_mib else 0 end, c.mib, c.is_there
  from counted c;
end;
$$;

grant select, insert, update, delete on inventory.vm_label, inventory.host_label to taskomatic_client;
grant execute on function
  inventory.kept_apart(uuid, text, text, boolean), inventory.reserve(bigint, text, uuid, bigint),
  inventory.reserve_many(bigint[], text[], uuid[], bigint[])
  to taskomatic_client;
