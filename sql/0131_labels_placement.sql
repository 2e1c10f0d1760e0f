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

grant select, insert, update, delete on inventory.vm_label, inventory.host_label to taskomatic_client;
grant execute on function
  inventory.kept_apart(uuid, text, text, boolean), inventory.reserve(bigint, text, uuid, bigint)
  to taskomatic_client;
