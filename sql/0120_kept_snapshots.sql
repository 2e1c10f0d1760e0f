-- Snapshots that were taken off a host so that their VM could leave it, until a host has been told of them again.
create table inventory.kept_snapshot (
  vm uuid not null,
  name text not null,
  -- Where they were last.
  host text not null,
  is_current boolean not null,
  -- The whole description, with the definition's secrets, encrypted by a key that is not in the database.
  sealed bytea not null,
  kept_at timestamptz not null default clock_timestamp(),
  primary key (vm, name)
);

grant select, insert, update, delete on inventory.kept_snapshot to taskomatic_client;
