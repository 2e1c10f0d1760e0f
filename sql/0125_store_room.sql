-- Room in stores. What a volume may still grow by is kept free for it, and what is about to be made is promised to its task, so that
-- no two tasks are given the same bytes.

-- Of a volume's size this part counts, however little of it is written: raw volumes, and those that grow as they are filled.
alter table inventory.store
  add column raw_percent smallint not null default 100 constraint raw_percent_is_a_part check (raw_percent between 0 and 100),
  add column thin_percent smallint not null default 25 constraint thin_percent_is_a_part check (thin_percent between 0 and 100);

-- Volumes that a task is about to make or to make larger. Once a volume is observed as promised, the sight counts.
create table inventory.store_reservation (
  task bigint not null,
  store text not null references inventory.store on update cascade on delete cascade,
  volume text not null,
  format text not null,
  capacity_bytes bigint not null,
  made_at timestamptz not null default clock_timestamp(),
  primary key (task, store, volume)
);
create index store_reservation_store on inventory.store_reservation (store);

-- What of a volume's size counts on a store.
create function inventory.counted_bytes(p_store text, p_format text, p_capacity bigint) returns bigint
language sql stable
return (
  select ceil(p_capacity * (case when coalesce(p_format, 'raw') = 'raw' then s.raw_percent else s.thin_percent end) / 100.0)::bigint
  from inventory.store s where s.name = p_store
);

-- Volumes of a store, as the active pools on it list them. What is deleted is told to all of them, what is made not always: so each
-- that any of them lists is there.
create function inventory.listed_volumes(p_store text) returns table (name text, held_bytes bigint, allocation_bytes bigint)
language sql stable
begin atomic
  select v.name, greatest(max(v.allocation_bytes), max(inventory.counted_bytes(p_store, v.format, v.capacity_bytes))), max(v.allocation_bytes)
  from inventory.pool p join inventory.volume v on v.host = p.host and v.pool = p.name
  where p.store = p_store and p.active
  group by v.name;
end;

-- What tasks were promised on a store and have not made yet.
create function inventory.promised_bytes(p_store text) returns table (task bigint, bytes bigint)
language sql stable
begin atomic
  select r.task, sum(greatest(0,
    inventory.counted_bytes(p_store, r.format, r.capacity_bytes) - coalesce(v.held_bytes, 0)))::bigint
  from inventory.store_reservation r
  left join inventory.listed_volumes(p_store) v on v.name = r.volume
  where r.store = p_store
  group by r.task;
end;

-- What a store has: no row while none of its pools has told a size. Of what pools tell the least counts: nobody tells them what others
-- make. `growing`: what its volumes may still take. `reserved`: what tasks but p_task were promised, and by whom.
create function inventory.store_room(p_store text, p_task bigint) returns table (
  capacity_bytes bigint, free_bytes bigint, growing_bytes bigint, reserved_bytes bigint, reserved_by bigint[]
)
language sql stable
begin atomic
  select p.capacity_bytes, p.available_bytes,
    coalesce((select sum(v.held_bytes - v.allocation_bytes)::bigint from inventory.listed_volumes(p_store) v), 0),
    coalesce(q.bytes, 0), coalesce(q.tasks, '{}')
  from (
    select max(k.capacity_bytes) as capacity_bytes,
      coalesce(min(k.available_bytes) filter (where h.connection = 'up'), min(k.available_bytes)) as available_bytes
    from inventory.pool k join inventory.host h on h.name = k.host
    where k.store = p_store and k.active and k.capacity_bytes > 0
  ) p
  cross join lateral (
    select sum(r.bytes)::bigint as bytes, array_agg(r.task order by r.task) as tasks
    from inventory.promised_bytes(p_store) r where r.task <> p_task and r.bytes > 0
  ) q
  where p.capacity_bytes is not null;
end;

-- Promises a task the volumes that it is about to make, [{store, volume, format, capacityBytes}], or none of them: a row for each store,
-- with what it has and whether it has that room. What was promised to the task before is given back.
create function inventory.reserve_in_stores(p_task bigint, p_volumes jsonb) returns table (
  store text, fits boolean, need_bytes bigint, capacity_bytes bigint, free_bytes bigint, growing_bytes bigint, reserved_bytes bigint,
  reserved_by bigint[]
)
language plpgsql set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  wanted record;
  lacking boolean := false;
begin
  perform from inventory.store s
    where s.name in (select v.store from jsonb_to_recordset(p_volumes) as v (store text)) order by s.name for no key update;
  delete from inventory.store_reservation r where r.task = p_task;
  -- Only on stores that are known: of others the task says for itself that there is no such.
  insert into inventory.store_reservation (task, store, volume, format, capacity_bytes)
  select p_task, v.store, v.volume, v.format, max(v."capacityBytes")
  from jsonb_to_recordset(p_volumes) as v (store text, volume text, format text, "capacityBytes" bigint)
  join inventory.store s on s.name = v.store
  group by v.store, v.volume, v.format
  on conflict (task, store, volume) do nothing;
  -- A later statement than the locks: what was promised while we waited is seen.
  for wanted in
    select r.store as name from inventory.store_reservation r where r.task = p_task group by r.store order by r.store
  loop
    store := wanted.name;
    select coalesce(sum(p.bytes), 0)::bigint into need_bytes from inventory.promised_bytes(store) p where p.task = p_task;
    select r.capacity_bytes, r.free_bytes, r.growing_bytes, r.reserved_bytes, r.reserved_by
      into capacity_bytes, free_bytes, growing_bytes, reserved_bytes, reserved_by from inventory.store_room(store, p_task) r;
    fits := need_bytes = 0 or free_bytes is null or need_bytes <= free_bytes - growing_bytes - reserved_bytes;
    lacking := lacking or not fits;
    return next;
  end loop;
  if lacking then
    delete from inventory.store_reservation r where r.task = p_task;
  end if;
end;
$$;

-- Who waits for room in a store looks again when there may be more of it.
create function inventory.tell_store_room() returns trigger language plpgsql as $$
begin
  perform pg_notify('inventory_room', 'store/' || new.store);
  return null;
end
$$;
create trigger pool_has_more_room after update on inventory.pool
  for each row when (new.active and (not old.active or new.available_bytes > old.available_bytes))
  execute function inventory.tell_store_room();
create function inventory.tell_volumes_gone() returns trigger language plpgsql as $$
begin
  perform pg_notify('inventory_room', 'store/' || g.store)
  from (
    select distinct p.store from gone v join inventory.pool p on p.host = v.host and p.name = v.pool
  ) g;
  return null;
end
$$;
create trigger volumes_gone after delete on inventory.volume referencing old table as gone
  for each statement execute function inventory.tell_volumes_gone();

grant select, insert, update, delete on inventory.store_reservation to taskomatic_client;
grant execute on function
  inventory.counted_bytes(text, text, bigint), inventory.listed_volumes(text), inventory.promised_bytes(text),
  inventory.store_room(text, bigint), inventory.reserve_in_stores(bigint, jsonb)
  to taskomatic_client;
