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

-- Hosts (all, or those of p_only) with their free memory for a VM, and what they lack: the emptiest first. Off VMs count when hosts
-- are compared, not when room is looked for: otherwise everything that is created before it is started would be put on one host.
drop function inventory.candidates(text, uuid, bigint, bigint, text[], text[]);
create function inventory.candidates(
  p_only text[],
  p_vm uuid,
  p_task bigint,
  p_memory_mib bigint,
  p_stores text[],
  p_networks text[],
  p_group text,
  p_resting boolean
) returns table (
  host text, connection inventory.connection, cordon_reason text, cpus integer, arch text, peer_uri text, total_mib bigint,
  free_mib bigint, expected_free_mib bigint, need_mib bigint, is_there boolean, lacks_stores text[], lacks_networks text[], apart_from text
)
language plpgsql stable set plan_cache_mode = force_generic_plan
as $$
begin
  return query
  with own as (
    -- Where it is already, it needs no more.
    select w.host, w.state, inventory.need_mib(w.max_memory_mib) as mib
    from inventory.whereabouts w where w.vm = p_vm and w.state in ('active', 'defined')
  ), promised as (
    select r.host, sum(r.memory_mib)::bigint as mib
    from inventory.reservation r
    where r.task <> p_task and r.vm <> p_vm and (p_only is null or r.host = any (p_only))
      and not exists (
        select from inventory.whereabouts w where w.vm = r.vm and w.host = r.host and w.state = 'active'
      )
    group by r.host
  )
  select
    h.name, h.connection, h.cordon_reason, h.cpus, h.arch, h.peer_uri, h.memory_mib,
    f.free,
    f.free - coalesce(l.resting_mib, 0) + case own.state when 'defined' then own.mib else 0 end as expected,
    inventory.need_mib(p_memory_mib),
    coalesce(own.state = 'active', false),
    case when p_stores = '{}' then '{}'::text[] else array(
      select s from unnest(p_stores) s
      where not exists (select from inventory.pool p where p.host = h.name and p.store = s and p.active)
    ) end,
    case when p_networks = '{}' then '{}'::text[] else array(
      select n from unnest(p_networks) n
      where not exists (select from inventory.network k where k.host = h.name and k.name = n and k.active)
    ) end,
    case when p_group is not null then inventory.kept_apart(p_vm, h.name, p_group, p_resting) end
  from inventory.host h
  left join inventory.host_load l on l.host = h.name
  left join promised on promised.host = h.name
  left join own on own.host = h.name
  cross join lateral (
    select inventory.usable_mib(coalesce(h.memory_mib, 0)) - coalesce(l.active_mib, 0) - coalesce(promised.mib, 0)
      + case own.state when 'active' then own.mib else 0 end as free
  ) f
  where p_only is null or h.name = any (p_only)
  order by expected desc, h.name;
end;
$$;

grant select, insert, update, delete on inventory.vm_label, inventory.host_label to taskomatic_client;
grant execute on function
  inventory.kept_apart(uuid, text, text, boolean),
  inventory.candidates(text[], uuid, bigint, bigint, text[], text[], text, boolean)
  to taskomatic_client;
