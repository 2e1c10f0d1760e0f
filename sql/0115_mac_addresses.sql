-- MAC addresses: which cards of VMs have them, on any host, and new ones that nothing in the fleet has.

create table inventory.nic (
  vm uuid not null,
  host text not null references inventory.host on delete cascade,
  mac text not null,
  primary key (vm, host, mac)
);
create index nic_mac on inventory.nic (mac);

-- Follows the sights of VMs, as inventory.disk does; by a trigger, since a card is rarely changed.
create function inventory.keep_nics() returns trigger
language plpgsql
as $$
declare
  macs text[];
begin
  if new.state in ('active', 'defined') then
    select coalesce(array_agg(distinct lower(k.mac)), '{}') into macs
    from jsonb_to_recordset(new.observed -> 'nics') as k (mac text)
    where k.mac <> '';
  else
    macs := '{}';
  end if;
  delete from inventory.nic n where n.vm = new.vm and n.host = new.host and n.mac <> all (macs);
  insert into inventory.nic (vm, host, mac) select new.vm, new.host, unnest(macs) on conflict do nothing;
  return null;
end;
$$;

create trigger nics_of_new_sights after insert on inventory.whereabouts
for each row when (new.observed is not null)
execute function inventory.keep_nics();

create trigger nics_of_sights after update of state, observed on inventory.whereabouts
for each row when (
  new.observed is not null
  -- `unknown` is no sight: what was seen last holds.
  and new.state <> 'unknown'
  and (old.state is distinct from new.state or old.observed -> 'nics' is distinct from new.observed -> 'nics')
)
execute function inventory.keep_nics();

-- Each number is drawn once before any is drawn again; where it begins differs between installations that share a network.
create sequence inventory.mac minvalue 0 maxvalue 16777215 cycle;
select setval('inventory.mac', floor(random() * 16777216)::bigint);

-- New addresses below QEMU's own prefix, which no card of any host has. Neighbours in time are no neighbours in number.
create function inventory.new_macs(p_count integer) returns text[]
language plpgsql
as $$
declare
  found text[] := '{}';
  candidate text;
begin
  -- Odd, and so a permutation of the 24 bits.
  for tries in 1 .. 16777216 loop
    exit when cardinality(found) >= p_count;
    candidate := '52:54:00' || regexp_replace(lpad(to_hex((nextval('inventory.mac') * 7364749) % 16777216), 6, '0'), '(..)', ':\1', 'g');
    if not exists (select from inventory.nic n where n.mac = candidate) then
      found := found || candidate;
    end if;
  end loop;
  if cardinality(found) < p_count then
    raise exception 'no MAC address below 52:54:00 is free' using errcode = 'program_limit_exceeded';
  end if;
  return found;
end;
$$;

grant select, insert, update, delete on inventory.nic to taskomatic_client;
grant usage on sequence inventory.mac to taskomatic_client;
grant execute on function inventory.new_macs(integer), inventory.keep_nics() to taskomatic_client;
