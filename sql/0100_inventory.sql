-- What hosts said of themselves, their VMs, pools, volumes and networks, and where each VM may be. Observations only: what open
-- tasks will bring about is folded over these by whoever reads facts. Unlike the queue's, these tables are written directly by the
-- server's login: a lost or false row here is healed by the next look at the host.

create schema inventory;
grant usage on schema inventory to taskomatic_client;

-- Names this installation in the marks that it leaves on hosts.
create table inventory.installation (
  instance uuid primary key default gen_random_uuid(),
  one_row boolean not null default true unique,
  constraint one_row_only check (one_row)
);
insert into inventory.installation default values;

-- Drawn before a host is asked. Of two sights of one thing the one that was begun later wins, however late its answer is written.
create sequence inventory.sighting;

create type inventory.connection as enum ('up', 'down', 'unknown');
-- `defined`: has a definition and no process. `unknown`: an attempt was bound to the host and it was not looked at since.
create type inventory.presence as enum ('active', 'defined', 'absent', 'unknown');

create table inventory.host (
  name text primary key,
  uuid uuid not null unique,
  control_uri text not null,
  peer_uri text,
  migration_uri text,
  added_at timestamptz not null default clock_timestamp(),
  added_by text not null,
  cordon_reason text,
  cordoned_by text,
  cordoned_at timestamptz,
  connection inventory.connection not null default 'unknown',
  connection_reason text,
  connection_since timestamptz not null default clock_timestamp(),
  hostname text,
  libvirt_version text,
  hypervisor_version text,
  arch text,
  cpus integer,
  memory_mib bigint,
  boot_time timestamptz,
  domain_type text,
  emulator text,
  machine text,
  observed_at timestamptz,
  generation bigint not null default 0,
  listed_at timestamptz,
  constraint cordoned_by_someone_for_a_reason check (num_nulls(cordon_reason, cordoned_by, cordoned_at) in (0, 3))
);

-- One row a VM that was ever seen and is not forgotten. Derived from whereabouts by inventory.settle_vms, in the same transaction.
create table inventory.vm (
  uuid uuid primary key,
  name text not null,
  -- The host that has its definition; of a VM without one, the host that it is or was last active on.
  home text,
  active_on text,
  gone_at timestamptz,
  first_seen_at timestamptz not null default clock_timestamp()
);
create index vm_name on inventory.vm (name) where gone_at is null;
create index vm_home on inventory.vm (home) where gone_at is null;
create index vm_gone on inventory.vm (gone_at) where gone_at is not null;

-- Every host on which a VM was seen or to which an attempt was bound. No reference to vm: an attempt is bound before there is one.
create table inventory.whereabouts (
  vm uuid not null,
  host text not null references inventory.host on delete cascade,
  state inventory.presence not null,
  since timestamptz not null,
  power text,
  reason text,
  persistent boolean not null default false,
  max_memory_mib bigint not null default 0,
  -- The last sight of it there (src/model/vm.ts, ObservedVm); kept when it is gone.
  observed jsonb,
  observed_at timestamptz not null,
  generation bigint not null,
  primary key (vm, host),
  constraint power_known_iff_present check ((power is not null) = (state in ('active', 'defined')))
) with (fillfactor = 70);
create index whereabouts_host on inventory.whereabouts (host);

-- Sums over a host's whereabouts, kept beside them: placement compares all hosts each time. A host without a row has no VMs.
create table inventory.host_load (
  host text primary key references inventory.host on delete cascade,
  active_vms integer not null,
  active_mib bigint not null,
  -- What its off VMs would need.
  resting_mib bigint not null
) with (fillfactor = 50);

-- Which paths a VM uses on a host, to answer who uses a volume.
create table inventory.disk (
  vm uuid not null,
  host text not null references inventory.host on delete cascade,
  target text not null,
  kind text not null,
  source text not null,
  primary key (vm, host, target)
);
create index disk_source on inventory.disk (source, host);

create table inventory.store (
  name text primary key,
  shared boolean not null,
  type text not null,
  -- Pools whose remote source reads the same are handles on this store.
  source text unique,
  -- Sharing that a person declared, as opposed to found by equal sources.
  declared boolean not null default false
);

create table inventory.pool (
  host text not null references inventory.host on delete cascade,
  name text not null,
  uuid uuid,
  type text not null,
  store text not null references inventory.store on update cascade,
  target text,
  source text,
  active boolean not null,
  persistent boolean not null,
  autostart boolean not null,
  capacity_bytes bigint not null,
  allocation_bytes bigint not null,
  available_bytes bigint not null,
  observed_at timestamptz not null,
  generation bigint not null,
  primary key (host, name)
);
create index pool_store on inventory.pool (store);

-- What each pool lists. Pools on one store may differ until the host refreshes them, so there is a row for each.
create table inventory.volume (
  host text not null,
  pool text not null,
  name text not null,
  path text not null,
  format text,
  capacity_bytes bigint not null,
  allocation_bytes bigint not null,
  backing text,
  observed_at timestamptz not null,
  generation bigint not null,
  primary key (host, pool, name),
  foreign key (host, pool) references inventory.pool on delete cascade
);
create index volume_backing on inventory.volume (backing) where backing is not null;
create index volume_path on inventory.volume (path);

create table inventory.network (
  host text not null references inventory.host on delete cascade,
  name text not null,
  uuid uuid,
  active boolean not null,
  persistent boolean not null,
  autostart boolean not null,
  bridge text,
  observed_at timestamptz not null,
  generation bigint not null,
  primary key (host, name)
);

-- Memory promised on a host to a task that has not made its VM active there yet. One a task; a later promise replaces it.
create table inventory.reservation (
  task bigint primary key,
  host text not null references inventory.host on delete cascade,
  vm uuid not null,
  memory_mib bigint not null,
  made_at timestamptz not null default clock_timestamp()
);
create index reservation_host on inventory.reservation (host);

-- A VM's last definition with its secrets, encrypted by a key that is not in the database.
create table inventory.definition (
  vm uuid primary key,
  name text not null,
  host text not null,
  sealed bytea not null,
  kept_at timestamptz not null default clock_timestamp()
);

-- Memory that a VM needs on its host: what the guest may have, and what QEMU takes beside it.
create function inventory.need_mib(max_memory_mib bigint) returns bigint
language sql immutable parallel safe
return ceil(max_memory_mib * 1.05)::bigint + 256;

-- Memory of a host that VMs may have: the host itself keeps 5 %, at least 2 GiB.
create function inventory.usable_mib(memory_mib bigint) returns bigint
language sql immutable parallel safe
return greatest(0, memory_mib - greatest(2048, ceil(memory_mib * 0.05)::bigint));

-- Adds hosts' whereabouts up anew. Whoever comes second waits for the rows and then sees what the first one wrote.
create function inventory.sum_loads(p_hosts text[]) returns void
language plpgsql set plan_cache_mode = force_generic_plan
as $$
declare
  emptier text[];
begin
  insert into inventory.host_load (host, active_vms, active_mib, resting_mib)
  select h, 0, 0, 0 from unnest(p_hosts) as h
  where not exists (select from inventory.host_load l where l.host = h)
  order by 1
  on conflict do nothing;
  perform from inventory.host_load l where l.host = any (p_hosts) order by l.host for no key update;
  with sums as (
    select
      h.host,
      count(w.vm) filter (where w.state = 'active') as active_vms,
      coalesce(sum(inventory.need_mib(w.max_memory_mib)) filter (where w.state = 'active'), 0) as active_mib,
      coalesce(sum(inventory.need_mib(w.max_memory_mib)) filter (where w.state = 'defined'), 0) as resting_mib
    from (select distinct u.host from unnest(p_hosts) as u (host)) h
    left join inventory.whereabouts w on w.host = h.host
    group by h.host
  ), before as (
    select l.host, l.active_mib from inventory.host_load l where l.host = any (p_hosts)
  ), written as (
    update inventory.host_load l
    set active_vms = s.active_vms, active_mib = s.active_mib, resting_mib = s.resting_mib
    from sums s where l.host = s.host
    returning l.host, l.active_mib
  )
  select array_agg(w.host) into emptier from written w join before b on b.host = w.host where w.active_mib < b.active_mib;
  perform pg_notify('inventory_room', h) from unnest(emptier) as h;
end;
$$;

-- Works out name, home and where it is active from the whereabouts. The callers hold the VMs' rows.
create function inventory.settle_vms(p_vms uuid[]) returns void
language plpgsql set plan_cache_mode = force_generic_plan
as $$
begin
  update inventory.vm v
  set
    home = found.home,
    active_on = found.active_on,
    name = coalesce(found.name, v.name),
    gone_at = case when found.somewhere then null else coalesce(v.gone_at, clock_timestamp()) end
  from (
    select
      vm.uuid,
      home.host as home,
      -- In a migration both ends have a process; the one at home is the VM until it is over.
      active.host as active_on,
      coalesce(active.observed, home.observed) ->> 'name' as name,
      places.somewhere
    from inventory.vm
    cross join lateral (
      select coalesce(bool_or(w.state <> 'absent'), false) as somewhere
      from inventory.whereabouts w
      where w.vm = vm.uuid
    ) places
    cross join lateral (
      select w.host, w.observed
      from inventory.whereabouts w
      where w.vm = vm.uuid
      order by
        -- The home stays while it has the definition; then whoever has it; then whoever runs it; then where it last was.
        (w.state in ('active', 'defined') and w.persistent) desc,
        (w.state in ('active', 'defined') and w.persistent and w.host = vm.home) desc,
        (w.state = 'active') desc,
        (w.host is not distinct from vm.home) desc,
        (w.observed is not null) desc,
        w.since desc,
        w.host
      limit 1
    ) home
    left join lateral (
      select w.host, w.observed
      from inventory.whereabouts w
      where w.vm = vm.uuid and w.state = 'active'
      order by (w.host = home.host) desc, w.since desc, w.host
      limit 1
    ) active on true
    where vm.uuid = any (p_vms)
  ) found
  where v.uuid = found.uuid
    and (v.home, v.active_on, v.name, v.gone_at is null)
      is distinct from (found.home, found.active_on, coalesce(found.name, v.name), found.somewhere);
end;
$$;

-- Records sights of VMs, on any number of hosts: [{host, generation, at, vm, seen}], `seen` an ObservedVm or null: asked for and not
-- there. Returns what is different from what was held true before.
create function inventory.record_sights(p_sights jsonb) returns table (
  host text, vm uuid, name text, was_state text, was_power text, now_state text, now_power text, resized boolean
)
language plpgsql set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  touched uuid[];
  changes jsonb;
begin
  insert into inventory.vm (uuid, name, home)
  select distinct on (s.vm) s.vm, s.seen ->> 'name', s.host
  from jsonb_to_recordset(p_sights) as s (host text, vm uuid, seen jsonb)
  where jsonb_typeof(s.seen) = 'object' and not exists (select from inventory.vm v where v.uuid = s.vm)
  order by s.vm
  on conflict (uuid) do nothing;

  select array_agg(distinct s.vm order by s.vm) into touched from jsonb_to_recordset(p_sights) as s (vm uuid);
  if touched is null then
    return;
  end if;

  -- Sights of one VM on two hosts take turns, each seeing the other's whereabouts when it works out the home.
  perform from inventory.vm v where v.uuid = any (touched) order by v.uuid for no key update;

  with sight as (
    -- Of two sights of one VM on one host the later counts.
    select distinct on (s.vm, s.host) s.host, s.generation, s.at, s.vm, case when jsonb_typeof(s.seen) = 'object' then s.seen end as seen
    from jsonb_to_recordset(p_sights) as s (host text, generation bigint, at timestamptz, vm uuid, seen jsonb)
    order by s.vm, s.host, s.generation desc
  ), there as (
    select
      s.host, s.vm, s.generation, s.at, s.seen,
      case when o.power in ('off', 'crashed') then 'defined' else 'active' end::inventory.presence as state,
      o.power,
      o.reason,
      o.persistent,
      o."maxMemoryMiB" as max_memory_mib
    from sight s
    cross join lateral jsonb_to_record(s.seen) as o (power text, reason text, persistent boolean, "maxMemoryMiB" bigint)
    where s.seen is not null
  ), old as (
    select w.* from inventory.whereabouts w join sight s on s.vm = w.vm and s.host = w.host
  ), present as (
    insert into inventory.whereabouts as w
      (vm, host, state, since, power, reason, persistent, max_memory_mib, observed, observed_at, generation)
    select s.vm, s.host, s.state, s.at, s.power, s.reason, s.persistent, s.max_memory_mib, s.seen, s.at, s.generation
    from there s
    order by s.vm, s.host
    on conflict on constraint whereabouts_pkey do update set
      state = excluded.state,
      since = case when w.state = excluded.state then w.since else excluded.since end,
      power = excluded.power,
      reason = excluded.reason,
      persistent = excluded.persistent,
      max_memory_mib = excluded.max_memory_mib,
      observed = excluded.observed,
      observed_at = excluded.observed_at,
      generation = excluded.generation
    where w.generation < excluded.generation
    returning w.vm, w.host, w.state, w.power, w.max_memory_mib
  ), gone as (
    update inventory.whereabouts w set
      state = 'absent',
      since = case when w.state = 'absent' then w.since else s.at end,
      power = null,
      reason = null,
      persistent = false,
      observed_at = s.at,
      generation = s.generation
    from sight s
    where w.host = s.host and w.vm = s.vm and s.seen is null and w.generation < s.generation
    returning w.vm, w.host, w.state, w.power, w.max_memory_mib
  ), no_disks as (
    delete from inventory.disk d
    using sight s
    where d.host = s.host and d.vm = s.vm
      and (
        exists (select from gone g where g.vm = d.vm and g.host = d.host)
        or (
          exists (select from present p where p.vm = d.vm and p.host = d.host)
          and not exists (
            select from jsonb_to_recordset(s.seen -> 'disks') as k (target text, source text)
            where k.target = d.target and k.source is not null
          )
        )
      )
  ), disks as (
    insert into inventory.disk as d (vm, host, target, kind, source)
    select p.vm, p.host, k.target, k.kind, k.source
    from present p
    join there s on s.vm = p.vm and s.host = p.host
    left join old o on o.vm = p.vm and o.host = p.host
    cross join lateral jsonb_to_recordset(s.seen -> 'disks') as k (target text, kind text, source text)
    where k.source is not null
      -- Most sights change nothing here, and a row that is not written need not be cleaned away.
      -- `absent` lost its rows; so may `unknown` have, being what an attempt makes of `absent` when it is bound to the host.
      and (o.vm is null or o.state in ('absent', 'unknown') or o.observed -> 'disks' is distinct from s.seen -> 'disks')
    on conflict on constraint disk_pkey do update set kind = excluded.kind, source = excluded.source
  )
  select jsonb_agg(jsonb_build_object(
    'host', n.host, 'vm', n.vm, 'name', coalesce(s.seen ->> 'name', v.name, n.vm::text),
    'was_state', coalesce(o.state::text, 'absent'), 'was_power', o.power, 'now_state', n.state::text, 'now_power', n.power,
    'resized', o.max_memory_mib is distinct from n.max_memory_mib))
  into changes
  from (select * from present union all select * from gone) n
  left join old o on o.vm = n.vm and o.host = n.host
  left join there s on s.vm = n.vm and s.host = n.host
  left join (select h.uuid, h.name from inventory.vm h where h.uuid = any (touched)) v on v.uuid = n.vm
  where coalesce(o.state, 'absent') is distinct from n.state
    or o.power is distinct from n.power
    or (n.state <> 'absent' and o.max_memory_mib is distinct from n.max_memory_mib);

  -- Most sights change nothing that is added up.
  if changes is not null then
    perform inventory.sum_loads(array(select distinct c.host from jsonb_to_recordset(changes) as c (host text) order by 1));
  end if;
  perform inventory.settle_vms(touched);
  return query
    select c.* from jsonb_to_recordset(coalesce(changes, '[]')) as c (
      host text, vm uuid, name text, was_state text, was_power text, now_state text, now_power text, resized boolean);
end;
$$;

-- What one host lists at one sight: every VM that it does not name is absent there.
create function inventory.record_vms(p_host text, p_generation bigint, p_at timestamptz, p_vms jsonb) returns table (
  vm uuid, name text, was_state text, was_power text, now_state text, now_power text, resized boolean
)
language plpgsql set plan_cache_mode = force_generic_plan
as $$
declare
  sights jsonb;
begin
  select jsonb_agg(jsonb_build_object('host', p_host, 'generation', p_generation, 'at', p_at, 'vm', s.vm, 'seen', s.seen)) into sights
  from (
    select (e.value ->> 'uuid')::uuid as vm, e.value as seen from jsonb_array_elements(p_vms) e (value)
    union all
    select w.vm, null from inventory.whereabouts w
    where w.host = p_host and w.state <> 'absent'
      and w.vm <> all (array(select (e.value ->> 'uuid')::uuid from jsonb_array_elements(p_vms) e (value)))
  ) s;
  return query
    select r.vm, r.name, r.was_state, r.was_power, r.now_state, r.now_power, r.resized
    from inventory.record_sights(coalesce(sights, '[]')) r;
end;
$$;

-- Hosts (all, or those of p_only) with their free memory for a VM, and what they lack: the emptiest first. Off VMs count when hosts
-- are compared, not when room is looked for: otherwise everything that is created before it is started would be put on one host.
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

grant select on all tables in schema inventory to taskomatic_client;
grant insert, update, delete on
  inventory.host, inventory.vm, inventory.whereabouts, inventory.disk, inventory.store, inventory.pool, inventory.volume,
  inventory.network, inventory.reservation, inventory.definition, inventory.host_load
to taskomatic_client;
grant usage on sequence inventory.sighting to taskomatic_client;
grant execute on all functions in schema inventory to taskomatic_client;
