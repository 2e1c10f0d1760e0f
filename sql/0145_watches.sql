-- Who watches which host. Each process that can watch takes part while its dispatcher has its lease; each host is watched by one of
-- them. Leases and the database's clock decide, so that a watcher that is gone is replaced like a dispatcher that is gone.

-- A row for each process that takes part. It counts while its dispatcher lives.
create table inventory.watcher (
  dispatcher bigint primary key
);

create table inventory.watch (
  host text primary key references inventory.host on delete cascade,
  -- Null: handed over, and nobody has taken it yet.
  dispatcher bigint,
  since timestamptz not null
);

-- One round of sharing. Takes hosts that nobody watches, up to the caller's share; tells how many it has beyond that, how others'
-- hosts are, and by a digest whether the list of hosts is another one than before. Without a lease it does nothing.
create function inventory.share_watches(p_dispatcher bigint, out holds boolean, out taken text[], out mine text[],
    out excess integer, out first boolean, out up_elsewhere text[], out fleet text)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  t constant timestamptz := queue.now();
  hosts integer;
  living integer;
  before_us integer;
  quota integer;
  own integer;
begin
  taken := '{}';
  holds := queue.lease_holds(p_dispatcher);
  if not holds then
    return;
  end if;
  insert into inventory.watcher (dispatcher) values (p_dispatcher) on conflict (dispatcher) do nothing;
  if found then
    delete from inventory.watcher w where not exists (select from queue.dispatcher d where d.id = w.dispatcher);
    -- Whoever has more than his share from now on gives some up.
    perform pg_notify('inventory_watch', '');
  end if;
  select count(*), count(*) filter (where w.dispatcher < p_dispatcher) into living, before_us
    from inventory.watcher w join queue.dispatcher d on d.id = w.dispatcher where d.expires_at > t or d.id = p_dispatcher;
  select count(*) into own from inventory.watch w where w.dispatcher = p_dispatcher;
  select count(*), md5(string_agg(concat_ws(' ', h.name, h.uuid, h.control_uri), ',' order by h.name)) into hosts, fleet
    from inventory.host h;
  -- Exact shares, so that they add up to all hosts: the first few have one more.
  quota := hosts / living + (before_us < hosts % living)::integer;
  first := before_us = 0;
  if own < quota then
    -- Whoever takes at the same time waits, and reads what is left.
    perform pg_advisory_xact_lock(7243010);
    with free as (
      select h.name, w.host is not null and w.dispatcher is null and w.since > t - interval '10 seconds' as handed
      from inventory.host h left join inventory.watch w on w.host = h.name
      where not exists (select from queue.dispatcher d where d.id = w.dispatcher and (d.expires_at > t or d.id = p_dispatcher))
      order by h.name limit quota - own
    ), took as (
      insert into inventory.watch as w (host, dispatcher, since) select name, p_dispatcher, t from free
      on conflict (host) do update set dispatcher = excluded.dispatcher, since = excluded.since
      returning w.host
    ), asked_anew as (
      -- What was said by one who died is not known to hold; what was handed over a moment ago is.
      update inventory.host h set connection = 'unknown', connection_reason = 'connecting', connection_since = clock_timestamp()
      from free f where h.name = f.name and not f.handed
        and (h.connection, h.connection_reason) is distinct from ('unknown'::inventory.connection, 'connecting'::text)
    )
    select coalesce(array_agg(host order by host), '{}') into taken from took;
  end if;
  select coalesce(array_agg(w.host order by w.host), '{}') into mine from inventory.watch w where w.dispatcher = p_dispatcher;
  excess := greatest(cardinality(mine) - quota, 0);
  select coalesce(array_agg(h.name), '{}') into up_elsewhere from inventory.host h
    where h.connection = 'up'
      and not exists (select from inventory.watch w where w.host = h.name and w.dispatcher = p_dispatcher);
end
$$;

-- Gives hosts up, for others to take at once. Who leaves takes no part any more. Does nothing, and says so, where there is nobody else.
create function inventory.hand_over_watches(p_dispatcher bigint, p_hosts text[], p_leaves boolean) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  others constant boolean := exists (
    select from inventory.watcher w join queue.dispatcher d on d.id = w.dispatcher
    where d.expires_at > queue.now() and d.id <> p_dispatcher);
begin
  if others then
    update inventory.watch set dispatcher = null, since = queue.now() where dispatcher = p_dispatcher and host = any (p_hosts);
    if p_leaves then
      delete from inventory.watcher where dispatcher = p_dispatcher;
    end if;
    perform pg_notify('inventory_watch', '');
  end if;
  return others;
end
$$;

-- What a watcher says of its host's connection counts only while it watches it: false when it does not any more.
create function inventory.set_watched_connection(
    p_dispatcher bigint, p_host text, p_connection inventory.connection, p_reason text) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if not queue.lease_holds(p_dispatcher) then
    return false;
  end if;
  perform from inventory.watch where host = p_host and dispatcher = p_dispatcher for share;
  if not found then
    return false;
  end if;
  update inventory.host set
      connection_since = case when connection = p_connection then connection_since else clock_timestamp() end,
      connection = p_connection, connection_reason = p_reason
    where name = p_host and (connection, connection_reason) is distinct from (p_connection, p_reason);
  if found then
    perform pg_notify('inventory_watch', p_host);
  end if;
  return true;
end
$$;

grant select on inventory.watcher, inventory.watch to taskomatic_client;
grant execute on function
  inventory.share_watches(bigint), inventory.hand_over_watches(bigint, text[], boolean),
  inventory.set_watched_connection(bigint, text, inventory.connection, text)
  to taskomatic_client;
