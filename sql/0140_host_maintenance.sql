-- A host's maintenance: that it was cleared, that an operator said that it is off, and what a clear moved away from it.

alter table inventory.host
  -- A clear ended with nothing active there. Whether that still holds is asked of the whereabouts each time (in_maintenance).
  add column maintenance_since timestamptz,
  -- An operator's statement that the host is off. It holds until the host answers again (off_ended_at); from then on what it left
  -- behind must be reconciled before it is opened.
  add column off_reason text,
  add column off_by text,
  add column off_at timestamptz,
  add column off_ended_at timestamptz,
  add constraint off_said_by_someone_for_a_reason check (num_nulls(off_reason, off_by, off_at) in (0, 3)),
  add constraint off_ended_only_if_said check (off_ended_at is null or off_at is not null),
  add constraint off_host_is_cordoned check (off_at is null or cordon_reason is not null),
  add constraint maintenance_host_is_cordoned check (maintenance_since is null or cordon_reason is not null);

-- What a clear took from a host, for the restore that brings it back.
create table inventory.cleared (
  host text not null references inventory.host on delete cascade,
  vm uuid not null,
  task bigint not null,
  -- `moved` while it ran, `moved off`: its definition alone, `stopped`: shut down where it was.
  how text not null,
  at timestamptz not null default clock_timestamp(),
  primary key (host, vm),
  constraint cleared_how_is_known check (how in ('moved', 'moved off', 'stopped'))
);

-- However it is recorded that a host answers: nobody's statement holds any more.
create function inventory.end_off() returns trigger language plpgsql as $$
begin
  new.off_ended_at := clock_timestamp();
  return new;
end
$$;
create trigger host_answers_again before update of connection on inventory.host
  for each row when (new.connection = 'up' and new.off_at is not null and new.off_ended_at is null)
  execute function inventory.end_off();

-- What may be arriving on a host: attempts that were bound to it and not looked at since, and room that is promised there to tasks
-- that are still open. A promise outlives its task by a moment.
create function inventory.arriving(p_host text) returns bigint
language sql stable
return (
  select count(*) from (
    select w.vm from inventory.whereabouts w where w.host = p_host and w.state = 'unknown'
    union
    select r.vm from inventory.reservation r
    where r.host = p_host
      and exists (select from queue.place q where q.task = r.task)
      and not exists (select from inventory.whereabouts w where w.vm = r.vm and w.host = p_host and w.state = 'active')
  ) a
);

-- Safe to reboot: cleared, and nothing is active there or may be arriving. After a reboot the host is listed again before it counts
-- as up, so that what its own autostart has brought up shows here.
create function inventory.in_maintenance(p_host text) returns boolean
language sql stable
return exists (
  select from inventory.host h where h.name = p_host and h.maintenance_since is not null
) and not exists (
  select from inventory.whereabouts w where w.host = p_host and w.state = 'active'
) and inventory.arriving(p_host) = 0;

-- Begins the maintenance of a cleared host if nothing is active there and nothing may be arriving. Returns what there is, by state.
create function inventory.begin_maintenance(p_host text) returns table (active integer, arriving integer)
language plpgsql
as $$
begin
  -- Whoever is bound to the host from now on sees that it is cordoned.
  perform from inventory.host h where h.name = p_host for no key update;
  select count(*) into active from inventory.whereabouts w where w.host = p_host and w.state = 'active';
  arriving := inventory.arriving(p_host);
  update inventory.host h
    set maintenance_since = case when active + arriving = 0 then coalesce(h.maintenance_since, clock_timestamp()) end
    where h.name = p_host and h.cordon_reason is not null;
  return next;
end
$$;

-- An operator says that a host is off: what was active there is off, what may have been arriving is not there. False when the host
-- answers: then it says for itself what it has.
create function inventory.confirm_off(p_host text, p_reason text, p_by text) returns boolean
language plpgsql
as $$
declare
  touched uuid[];
begin
  -- Hosts before VMs, as whoever records a list of the host.
  perform from inventory.host h where h.name = p_host for no key update;
  select coalesce(array_agg(w.vm order by w.vm), '{}') into touched
    from inventory.whereabouts w where w.host = p_host and w.state in ('active', 'unknown');
  perform from inventory.vm v where v.uuid = any (touched) order by v.uuid for no key update;
  update inventory.host h set
    off_reason = p_reason, off_by = p_by, off_at = clock_timestamp(), off_ended_at = null,
    cordon_reason = coalesce(h.cordon_reason, 'confirmed off: ' || p_reason),
    cordoned_by = coalesce(h.cordoned_by, p_by), cordoned_at = coalesce(h.cordoned_at, clock_timestamp())
    where h.name = p_host and h.connection <> 'up';
  if not found then
    return false;
  end if;
  update inventory.whereabouts w set
    state = case when w.state = 'active' and w.persistent then 'defined' else 'absent' end::inventory.presence,
    power = case when w.state = 'active' and w.persistent then 'off' end,
    reason = case when w.state = 'active' and w.persistent then 'host confirmed off' end,
    persistent = w.state = 'active' and w.persistent,
    observed = case when w.observed is not null
      then w.observed || '{"power": "off", "reason": "host confirmed off", "job": null}' end,
    since = clock_timestamp(), observed_at = clock_timestamp(), generation = nextval('inventory.sighting')
    where w.host = p_host and w.vm = any (touched) and w.state in ('active', 'unknown');
  perform inventory.sum_loads(array[p_host]);
  perform inventory.settle_vms(touched);
  return true;
end
$$;

-- A definition that a confirmed-off host still has counts no more: its VM lives elsewhere now. When the host returns it says again
-- what it has, and that is reconciled.
create function inventory.leave_behind(p_vm uuid, p_host text) returns boolean
language plpgsql
as $$
begin
  perform from inventory.vm v where v.uuid = p_vm for no key update;
  update inventory.whereabouts w set
    state = 'absent', power = null, reason = null, persistent = false,
    since = clock_timestamp(), observed_at = clock_timestamp(), generation = nextval('inventory.sighting')
    where w.vm = p_vm and w.host = p_host and w.state <> 'absent'
      and exists (select from inventory.host h where h.name = p_host and h.off_at is not null and h.off_ended_at is null);
  if not found then
    return false;
  end if;
  delete from inventory.disk d where d.vm = p_vm and d.host = p_host;
  perform inventory.sum_loads(array[p_host]);
  perform inventory.settle_vms(array[p_vm]);
  return true;
end
$$;

grant select, insert, update, delete on inventory.cleared to taskomatic_client;
grant execute on function inventory.in_maintenance(text), inventory.begin_maintenance(text),
  inventory.arriving(text), inventory.confirm_off(text, text, text), inventory.leave_behind(uuid, text) to taskomatic_client;
