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

create or replace function inventory.in_maintenance(p_host text) returns boolean
language sql stable
return exists (
  select from inventory.host h where h.name = p_host and h.maintenance_since is not null
) and not exists (
  select from inventory.whereabouts w where w.host = p_host and w.state = 'active'
) and inventory.arriving(p_host) = 0;

create or replace function inventory.begin_maintenance(p_host text) returns table (active integer, arriving integer)
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

grant execute on function inventory.arriving(text) to taskomatic_client;
