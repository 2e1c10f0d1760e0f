-- A VM's life beyond its runs: saved images that may be restored, what starts with its host, and that a host has booted anew.

-- A saved image that a task made, while the VM has not run anywhere since: only such an image fits its disks.
create table inventory.saved_image (
  vm uuid primary key references inventory.vm on delete cascade,
  host text not null references inventory.host on delete cascade,
  task bigint not null,
  saved_at timestamptz not null default clock_timestamp(),
  -- Drawn once the image was seen: a sight of a run that was begun later makes it stale.
  generation bigint not null default nextval('inventory.sighting')
);

-- Wherever the VM is seen to run, its image is older than its disks from then on.
create function inventory.saved_image_is_stale() returns trigger language plpgsql as $$
begin
  delete from inventory.saved_image s where s.vm = new.vm and s.generation < new.generation;
  return null;
end
$$;
create trigger vm_came_to_run after insert on inventory.whereabouts
  for each row when (new.state = 'active') execute function inventory.saved_image_is_stale();
create trigger vm_ran_again after update of state on inventory.whereabouts
  for each row when (new.state = 'active' and old.state <> 'active') execute function inventory.saved_image_is_stale();

-- VMs that are started when their host has booted: smaller orders first, each followed by a pause.
create table inventory.autostart (
  vm uuid primary key references inventory.vm on delete cascade,
  start_order integer not null,
  delay_seconds integer not null,
  set_by text not null,
  set_at timestamptz not null default clock_timestamp(),
  constraint start_order_is_small check (start_order between 0 and 1000),
  constraint delay_is_at_most_an_hour check (delay_seconds between 0 and 3600)
);

alter table inventory.host
  -- When its boot time was seen to have changed, and the boot whose autostart was asked for.
  add column rebooted_at timestamptz,
  add column autostarted_at timestamptz;

-- A boot time is reckoned from CPU time and drifts: by what the host does not count, over the time since it was last reckoned.
create function inventory.note_boot() returns trigger language plpgsql as $$
begin
  if new.boot_time > old.boot_time + interval '30 seconds'
    + 0.02 * (clock_timestamp() - coalesce(old.observed_at, clock_timestamp())) then
    new.rebooted_at := clock_timestamp();
  end if;
  return new;
end
$$;
create trigger host_has_booted before update of boot_time on inventory.host
  for each row when (new.boot_time is distinct from old.boot_time) execute function inventory.note_boot();

grant select, insert, update, delete on inventory.saved_image, inventory.autostart to taskomatic_client;
