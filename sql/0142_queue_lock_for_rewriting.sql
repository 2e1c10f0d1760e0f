-- Who decides on rewrites first keeps everybody else from what they are about: nothing is bound or expanded, nothing that claims one of
-- these resources is submitted, until the transaction ends.
create function queue.lock_for_rewriting(p_names text[]) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform pg_advisory_xact_lock(7243003);
  perform from queue.resource where name = any (p_names collate "C") order by name for update;
end
$$;

grant execute on function queue.lock_for_rewriting(text[]) to taskomatic_client;
