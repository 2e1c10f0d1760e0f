-- The whole schema, as PostgreSQL 15 sees it after all migrations. Not a migration; written by `npm run schema`.

-- Name: inventory; Type: SCHEMA; Schema: -

CREATE SCHEMA inventory;

ALTER SCHEMA inventory OWNER TO taskomatic_owner;

-- Name: migration; Type: SCHEMA; Schema: -

CREATE SCHEMA migration;

ALTER SCHEMA migration OWNER TO taskomatic_owner;

-- Name: queue; Type: SCHEMA; Schema: -

CREATE SCHEMA queue;

ALTER SCHEMA queue OWNER TO taskomatic_owner;

-- Name: connection; Type: TYPE; Schema: inventory

CREATE TYPE inventory.connection AS ENUM (
    'up',
    'down',
    'unknown'
);

ALTER TYPE inventory.connection OWNER TO taskomatic_owner;

-- Name: presence; Type: TYPE; Schema: inventory

CREATE TYPE inventory.presence AS ENUM (
    'active',
    'defined',
    'absent',
    'unknown'
);

ALTER TYPE inventory.presence OWNER TO taskomatic_owner;

-- Name: needs; Type: TYPE; Schema: queue

CREATE TYPE queue.needs AS ENUM (
    'complete',
    'ended'
);

ALTER TYPE queue.needs OWNER TO taskomatic_owner;

-- Name: on_failure; Type: TYPE; Schema: queue

CREATE TYPE queue.on_failure AS ENUM (
    'stop',
    'continue',
    'rollback'
);

ALTER TYPE queue.on_failure OWNER TO taskomatic_owner;

-- Name: state; Type: TYPE; Schema: queue

CREATE TYPE queue.state AS ENUM (
    'held',
    'waiting',
    'scheduled',
    'parked',
    'ready',
    'running',
    'awaiting',
    'cancelling',
    'uncertain',
    'complete',
    'failed',
    'cancelled'
);

ALTER TYPE queue.state OWNER TO taskomatic_owner;

-- Name: undo_state; Type: TYPE; Schema: queue

CREATE TYPE queue.undo_state AS ENUM (
    'none',
    'undone',
    'partly_undone',
    'impossible',
    'needs_operator'
);

ALTER TYPE queue.undo_state OWNER TO taskomatic_owner;

-- Name: reservation; Type: TABLE; Schema: inventory

CREATE TABLE inventory.reservation (
    task bigint NOT NULL,
    host text NOT NULL,
    vm uuid NOT NULL,
    memory_mib bigint NOT NULL,
    made_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE inventory.reservation OWNER TO taskomatic_owner;

-- Name: whereabouts; Type: TABLE; Schema: inventory

CREATE TABLE inventory.whereabouts (
    vm uuid NOT NULL,
    host text NOT NULL,
    state inventory.presence NOT NULL,
    since timestamp with time zone NOT NULL,
    power text,
    reason text,
    persistent boolean DEFAULT false NOT NULL,
    max_memory_mib bigint DEFAULT 0 NOT NULL,
    observed jsonb,
    observed_at timestamp with time zone NOT NULL,
    generation bigint NOT NULL,
    CONSTRAINT power_known_iff_present CHECK (((power IS NOT NULL) = (state = ANY (ARRAY['active'::inventory.presence, 'defined'::inventory.presence]))))
)
WITH (fillfactor='70');

ALTER TABLE inventory.whereabouts OWNER TO taskomatic_owner;

-- Name: ready; Type: TABLE; Schema: queue

CREATE TABLE queue.ready (
    task bigint NOT NULL,
    rank smallint NOT NULL,
    "position" bigint NOT NULL,
    attempts integer NOT NULL,
    started boolean NOT NULL,
    since timestamp with time zone NOT NULL
);

ALTER TABLE queue.ready OWNER TO taskomatic_owner;

-- Name: run; Type: TABLE; Schema: queue

CREATE TABLE queue.run (
    task bigint NOT NULL,
    attempt integer NOT NULL,
    dispatcher bigint,
    started boolean NOT NULL,
    phase queue.state DEFAULT 'running'::queue.state NOT NULL,
    started_at timestamp with time zone NOT NULL,
    deadline timestamp with time zone,
    awaiting text,
    evidence jsonb,
    error jsonb,
    priority smallint NOT NULL,
    "position" bigint NOT NULL,
    CONSTRAINT run_awaiting_has_deadline_or_children CHECK (((phase <> 'awaiting'::queue.state) OR (deadline IS NOT NULL) OR (dispatcher IS NULL))),
    CONSTRAINT run_phase_is_in_progress CHECK ((phase = ANY (ARRAY['running'::queue.state, 'awaiting'::queue.state, 'uncertain'::queue.state])))
);

ALTER TABLE queue.run OWNER TO taskomatic_owner;

-- Name: wait; Type: TABLE; Schema: queue

CREATE TABLE queue.wait (
    task bigint NOT NULL,
    unmet integer NOT NULL,
    barred smallint DEFAULT 0 NOT NULL,
    behind integer DEFAULT 0 NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    started boolean DEFAULT false NOT NULL,
    limited boolean DEFAULT false NOT NULL,
    priority smallint NOT NULL,
    "position" bigint,
    doomed_by bigint,
    CONSTRAINT wait_counts_are_not_negative CHECK (((unmet >= 0) AND (barred >= 0) AND (behind >= 0)))
)
WITH (fillfactor='70');

ALTER TABLE queue.wait OWNER TO taskomatic_owner;

-- Name: place; Type: VIEW; Schema: queue

CREATE VIEW queue.place AS
 SELECT wait.task,
    'wait'::text AS place,
    wait.attempts,
    wait.started,
    wait.priority,
    wait."position",
    NULL::bigint AS dispatcher,
    NULL::timestamp with time zone AS started_at
   FROM queue.wait
UNION ALL
 SELECT ready.task,
    'ready'::text AS place,
    ready.attempts,
    ready.started,
    (- ready.rank) AS priority,
    ready."position",
    NULL::bigint AS dispatcher,
    NULL::timestamp with time zone AS started_at
   FROM queue.ready
UNION ALL
 SELECT run.task,
    'run'::text AS place,
    run.attempt AS attempts,
    run.started,
    run.priority,
    run."position",
    run.dispatcher,
    run.started_at
   FROM queue.run;

ALTER TABLE queue.place OWNER TO taskomatic_owner;

-- Name: arriving(text); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.arriving(p_host text) RETURNS bigint
    LANGUAGE sql STABLE
    RETURN (SELECT count(*) AS count FROM (SELECT w.vm FROM inventory.whereabouts w WHERE ((w.host = arriving.p_host) AND (w.state = 'unknown'::inventory.presence)) UNION SELECT r.vm FROM inventory.reservation r WHERE ((r.host = arriving.p_host) AND (EXISTS (SELECT FROM queue.place q WHERE (q.task = r.task))) AND (NOT (EXISTS (SELECT FROM inventory.whereabouts w WHERE ((w.vm = r.vm) AND (w.host = arriving.p_host) AND (w.state = 'active'::inventory.presence))))))) a);

ALTER FUNCTION inventory.arriving(p_host text) OWNER TO taskomatic_owner;

-- Name: begin_maintenance(text); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.begin_maintenance(p_host text) RETURNS TABLE(active integer, arriving integer)
    LANGUAGE plpgsql
    AS $$
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

ALTER FUNCTION inventory.begin_maintenance(p_host text) OWNER TO taskomatic_owner;

-- Name: candidates(text[], uuid, bigint, bigint, text[], text[], text, boolean); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.candidates(p_only text[], p_vm uuid, p_task bigint, p_memory_mib bigint, p_stores text[], p_networks text[], p_group text, p_resting boolean) RETURNS TABLE(host text, connection inventory.connection, cordon_reason text, cpus integer, arch text, peer_uri text, total_mib bigint, free_mib bigint, expected_free_mib bigint, need_mib bigint, is_there boolean, lacks_stores text[], lacks_networks text[], apart_from text)
    LANGUAGE plpgsql STABLE
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
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

ALTER FUNCTION inventory.candidates(p_only text[], p_vm uuid, p_task bigint, p_memory_mib bigint, p_stores text[], p_networks text[], p_group text, p_resting boolean) OWNER TO taskomatic_owner;

-- Name: confirm_off(text, text, text); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.confirm_off(p_host text, p_reason text, p_by text) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
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

ALTER FUNCTION inventory.confirm_off(p_host text, p_reason text, p_by text) OWNER TO taskomatic_owner;

-- Name: store; Type: TABLE; Schema: inventory

CREATE TABLE inventory.store (
    name text NOT NULL,
    shared boolean NOT NULL,
    type text NOT NULL,
    source text,
    declared boolean DEFAULT false NOT NULL,
    raw_percent smallint DEFAULT 100 NOT NULL,
    thin_percent smallint DEFAULT 25 NOT NULL,
    CONSTRAINT raw_percent_is_a_part CHECK (((raw_percent >= 0) AND (raw_percent <= 100))),
    CONSTRAINT thin_percent_is_a_part CHECK (((thin_percent >= 0) AND (thin_percent <= 100)))
);

ALTER TABLE inventory.store OWNER TO taskomatic_owner;

-- Name: counted_bytes(text, text, bigint); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.counted_bytes(p_store text, p_format text, p_capacity bigint) RETURNS bigint
    LANGUAGE sql STABLE
    RETURN (SELECT (ceil((((counted_bytes.p_capacity * CASE WHEN (COALESCE(counted_bytes.p_format, 'raw'::text) = 'raw'::text) THEN s.raw_percent ELSE s.thin_percent END))::numeric / 100.0)))::bigint AS ceil FROM inventory.store s WHERE (s.name = counted_bytes.p_store));

ALTER FUNCTION inventory.counted_bytes(p_store text, p_format text, p_capacity bigint) OWNER TO taskomatic_owner;

-- Name: end_off(); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.end_off() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  new.off_ended_at := clock_timestamp();
  return new;
end
$$;

ALTER FUNCTION inventory.end_off() OWNER TO taskomatic_owner;

-- Name: hand_over_watches(bigint, text[], boolean); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.hand_over_watches(p_dispatcher bigint, p_hosts text[], p_leaves boolean) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION inventory.hand_over_watches(p_dispatcher bigint, p_hosts text[], p_leaves boolean) OWNER TO taskomatic_owner;

-- Name: host; Type: TABLE; Schema: inventory

CREATE TABLE inventory.host (
    name text NOT NULL,
    uuid uuid NOT NULL,
    control_uri text NOT NULL,
    peer_uri text,
    migration_uri text,
    added_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    added_by text NOT NULL,
    cordon_reason text,
    cordoned_by text,
    cordoned_at timestamp with time zone,
    connection inventory.connection DEFAULT 'unknown'::inventory.connection NOT NULL,
    connection_reason text,
    connection_since timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    hostname text,
    libvirt_version text,
    hypervisor_version text,
    arch text,
    cpus integer,
    memory_mib bigint,
    boot_time timestamp with time zone,
    domain_type text,
    emulator text,
    machine text,
    observed_at timestamp with time zone,
    generation bigint DEFAULT 0 NOT NULL,
    listed_at timestamp with time zone,
    rebooted_at timestamp with time zone,
    autostarted_at timestamp with time zone,
    maintenance_since timestamp with time zone,
    off_reason text,
    off_by text,
    off_at timestamp with time zone,
    off_ended_at timestamp with time zone,
    CONSTRAINT cordoned_by_someone_for_a_reason CHECK ((num_nulls(cordon_reason, cordoned_by, cordoned_at) = ANY (ARRAY[0, 3]))),
    CONSTRAINT maintenance_host_is_cordoned CHECK (((maintenance_since IS NULL) OR (cordon_reason IS NOT NULL))),
    CONSTRAINT off_ended_only_if_said CHECK (((off_ended_at IS NULL) OR (off_at IS NOT NULL))),
    CONSTRAINT off_host_is_cordoned CHECK (((off_at IS NULL) OR (cordon_reason IS NOT NULL))),
    CONSTRAINT off_said_by_someone_for_a_reason CHECK ((num_nulls(off_reason, off_by, off_at) = ANY (ARRAY[0, 3])))
);

ALTER TABLE inventory.host OWNER TO taskomatic_owner;

-- Name: in_maintenance(text); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.in_maintenance(p_host text) RETURNS boolean
    LANGUAGE sql STABLE
    RETURN ((EXISTS (SELECT FROM inventory.host h WHERE ((h.name = in_maintenance.p_host) AND (h.maintenance_since IS NOT NULL)))) AND (NOT (EXISTS (SELECT FROM inventory.whereabouts w WHERE ((w.host = in_maintenance.p_host) AND (w.state = 'active'::inventory.presence))))) AND (inventory.arriving(p_host) = 0));

ALTER FUNCTION inventory.in_maintenance(p_host text) OWNER TO taskomatic_owner;

-- Name: keep_nics(); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.keep_nics() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

ALTER FUNCTION inventory.keep_nics() OWNER TO taskomatic_owner;

-- Name: vm; Type: TABLE; Schema: inventory

CREATE TABLE inventory.vm (
    uuid uuid NOT NULL,
    name text NOT NULL,
    home text,
    active_on text,
    gone_at timestamp with time zone,
    first_seen_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE inventory.vm OWNER TO taskomatic_owner;

-- Name: vm_label; Type: TABLE; Schema: inventory

CREATE TABLE inventory.vm_label (
    vm uuid NOT NULL,
    key text NOT NULL,
    value text NOT NULL
);

ALTER TABLE inventory.vm_label OWNER TO taskomatic_owner;

-- Name: kept_apart(uuid, text, text, boolean); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.kept_apart(p_vm uuid, p_host text, p_group text, p_resting boolean) RETURNS text
    LANGUAGE sql STABLE
    RETURN (SELECT COALESCE(v.name, (w.vm)::text) AS "coalesce" FROM ((inventory.vm_label l JOIN (SELECT a.vm, a.host FROM inventory.whereabouts a WHERE ((a.host = kept_apart.p_host) AND ((a.state = ANY (ARRAY['active'::inventory.presence, 'unknown'::inventory.presence])) OR (kept_apart.p_resting AND (a.state = 'defined'::inventory.presence)))) UNION ALL SELECT r.vm, r.host FROM inventory.reservation r WHERE (r.host = kept_apart.p_host)) w ON ((w.vm = l.vm))) LEFT JOIN inventory.vm v ON ((v.uuid = w.vm))) WHERE ((l.key = 'anti-affinity'::text) AND (l.value = kept_apart.p_group) AND (l.vm <> kept_apart.p_vm)) ORDER BY COALESCE(v.name, (w.vm)::text) LIMIT 1);

ALTER FUNCTION inventory.kept_apart(p_vm uuid, p_host text, p_group text, p_resting boolean) OWNER TO taskomatic_owner;

-- Name: leave_behind(uuid, text); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.leave_behind(p_vm uuid, p_host text) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
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

ALTER FUNCTION inventory.leave_behind(p_vm uuid, p_host text) OWNER TO taskomatic_owner;

-- Name: pool; Type: TABLE; Schema: inventory

CREATE TABLE inventory.pool (
    host text NOT NULL,
    name text NOT NULL,
    uuid uuid,
    type text NOT NULL,
    store text NOT NULL,
    target text,
    source text,
    active boolean NOT NULL,
    persistent boolean NOT NULL,
    autostart boolean NOT NULL,
    capacity_bytes bigint NOT NULL,
    allocation_bytes bigint NOT NULL,
    available_bytes bigint NOT NULL,
    observed_at timestamp with time zone NOT NULL,
    generation bigint NOT NULL
);

ALTER TABLE inventory.pool OWNER TO taskomatic_owner;

-- Name: volume; Type: TABLE; Schema: inventory

CREATE TABLE inventory.volume (
    host text NOT NULL,
    pool text NOT NULL,
    name text NOT NULL,
    path text NOT NULL,
    format text,
    capacity_bytes bigint NOT NULL,
    allocation_bytes bigint NOT NULL,
    backing text,
    observed_at timestamp with time zone NOT NULL,
    generation bigint NOT NULL
);

ALTER TABLE inventory.volume OWNER TO taskomatic_owner;

-- Name: listed_volumes(text); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.listed_volumes(p_store text) RETURNS TABLE(name text, held_bytes bigint, allocation_bytes bigint)
    LANGUAGE sql STABLE
    BEGIN ATOMIC
 SELECT v.name,
     GREATEST(max(v.allocation_bytes), max(inventory.counted_bytes(listed_volumes.p_store, v.format, v.capacity_bytes))) AS "greatest",
     max(v.allocation_bytes) AS max
    FROM (inventory.pool p
      JOIN inventory.volume v ON (((v.host = p.host) AND (v.pool = p.name))))
   WHERE ((p.store = listed_volumes.p_store) AND p.active)
   GROUP BY v.name;
END;

ALTER FUNCTION inventory.listed_volumes(p_store text) OWNER TO taskomatic_owner;

-- Name: need_mib(bigint); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.need_mib(max_memory_mib bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((ceil(((max_memory_mib)::numeric * 1.05)))::bigint + 256);

ALTER FUNCTION inventory.need_mib(max_memory_mib bigint) OWNER TO taskomatic_owner;

-- Name: new_macs(integer); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.new_macs(p_count integer) RETURNS text[]
    LANGUAGE plpgsql
    AS $$
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

ALTER FUNCTION inventory.new_macs(p_count integer) OWNER TO taskomatic_owner;

-- Name: note_boot(); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.note_boot() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  if new.boot_time > old.boot_time + interval '30 seconds'
    + 0.02 * (clock_timestamp() - coalesce(old.observed_at, clock_timestamp())) then
    new.rebooted_at := clock_timestamp();
  end if;
  return new;
end
$$;

ALTER FUNCTION inventory.note_boot() OWNER TO taskomatic_owner;

-- Name: store_reservation; Type: TABLE; Schema: inventory

CREATE TABLE inventory.store_reservation (
    task bigint NOT NULL,
    store text NOT NULL,
    volume text NOT NULL,
    format text NOT NULL,
    capacity_bytes bigint NOT NULL,
    made_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE inventory.store_reservation OWNER TO taskomatic_owner;

-- Name: promised_bytes(text); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.promised_bytes(p_store text) RETURNS TABLE(task bigint, bytes bigint)
    LANGUAGE sql STABLE
    BEGIN ATOMIC
 SELECT r.task,
     (sum(GREATEST((0)::bigint, (inventory.counted_bytes(promised_bytes.p_store, r.format, r.capacity_bytes) - COALESCE(v.held_bytes, (0)::bigint)))))::bigint AS sum
    FROM (inventory.store_reservation r
      LEFT JOIN inventory.listed_volumes(promised_bytes.p_store) v(name, held_bytes, allocation_bytes) ON ((v.name = r.volume)))
   WHERE (r.store = promised_bytes.p_store)
   GROUP BY r.task;
END;

ALTER FUNCTION inventory.promised_bytes(p_store text) OWNER TO taskomatic_owner;

-- Name: record_sights(jsonb); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.record_sights(p_sights jsonb) RETURNS TABLE(host text, vm uuid, name text, was_state text, was_power text, now_state text, now_power text, resized boolean)
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
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

ALTER FUNCTION inventory.record_sights(p_sights jsonb) OWNER TO taskomatic_owner;

-- Name: record_vms(text, bigint, timestamp with time zone, jsonb); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.record_vms(p_host text, p_generation bigint, p_at timestamp with time zone, p_vms jsonb) RETURNS TABLE(vm uuid, name text, was_state text, was_power text, now_state text, now_power text, resized boolean)
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
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

ALTER FUNCTION inventory.record_vms(p_host text, p_generation bigint, p_at timestamp with time zone, p_vms jsonb) OWNER TO taskomatic_owner;

-- Name: reserve(bigint, text, uuid, bigint); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.reserve(p_task bigint, p_host text, p_vm uuid, p_memory_mib bigint) RETURNS TABLE(reserved boolean, free_mib bigint, expected_free_mib bigint, need_mib bigint, is_there boolean, apart_from text, kept_apart text)
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
#variable_conflict use_column
declare
  found_host record;
begin
  reserved := false;
  select l.value into kept_apart from inventory.vm_label l where l.vm = p_vm and l.key = 'anti-affinity';
  begin
    perform from inventory.host h where h.name = p_host for no key update;
    -- A later statement than the lock: what was promised while we waited is seen.
    select * into found_host from inventory.candidates(
      array[p_host], p_vm, p_task, p_memory_mib, '{}'::text[], '{}'::text[], kept_apart, false);
    if found_host.host is null
      or not (found_host.is_there or (found_host.apart_from is null and found_host.free_mib >= found_host.need_mib)) then
      raise exception using errcode = 'TKNRM', message = 'no room';
    end if;
    if not found_host.is_there then
      insert into inventory.reservation as r (task, host, vm, memory_mib) values (p_task, p_host, p_vm, found_host.need_mib)
      on conflict (task) do update set
        host = excluded.host, vm = excluded.vm, memory_mib = excluded.memory_mib, made_at = clock_timestamp();
    end if;
    reserved := true;
  exception when sqlstate 'TKNRM' then
    null;
  end;
  if found_host.host is null then
    return;
  end if;
  free_mib := found_host.free_mib;
  expected_free_mib := found_host.expected_free_mib;
  need_mib := found_host.need_mib;
  is_there := found_host.is_there;
  apart_from := found_host.apart_from;
  return next;
end;
$$;

ALTER FUNCTION inventory.reserve(p_task bigint, p_host text, p_vm uuid, p_memory_mib bigint) OWNER TO taskomatic_owner;

-- Name: reserve_in_stores(bigint, jsonb); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.reserve_in_stores(p_task bigint, p_volumes jsonb) RETURNS TABLE(store text, fits boolean, need_bytes bigint, capacity_bytes bigint, free_bytes bigint, growing_bytes bigint, reserved_bytes bigint, reserved_by bigint[])
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
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

ALTER FUNCTION inventory.reserve_in_stores(p_task bigint, p_volumes jsonb) OWNER TO taskomatic_owner;

-- Name: reserve_many(bigint[], text[], uuid[], bigint[]); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.reserve_many(p_tasks bigint[], p_hosts text[], p_vms uuid[], p_memory_mib bigint[]) RETURNS TABLE(task bigint, reserved boolean, free_mib bigint, expected_free_mib bigint, need_mib bigint, is_there boolean)
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
#variable_conflict use_column
begin
  -- By name: of two who want several hosts one waits for the other.
  perform from inventory.host h where h.name = any (p_hosts) order by h.name for no key update;
  -- A later statement than the locks: what was promised while we waited is seen.
  return query
  with asked as (
    select a.task, a.host, a.vm, inventory.need_mib(a.memory_mib) as mib, a.ordinal, w.state, inventory.need_mib(w.max_memory_mib) as own_mib,
      exists (select from inventory.vm_label l where l.vm = a.vm and l.key = 'anti-affinity') as is_kept_apart
    from unnest(p_tasks, p_hosts, p_vms, p_memory_mib) with ordinality as a (task, host, vm, memory_mib, ordinal)
    left join inventory.whereabouts w on w.vm = a.vm and w.host = a.host and w.state in ('active', 'defined')
  ), room as (
    select h.name, coalesce(l.resting_mib, 0) as resting,
      inventory.usable_mib(coalesce(h.memory_mib, 0)) - coalesce(l.active_mib, 0) - coalesce((
        select sum(r.memory_mib)::bigint from inventory.reservation r
        where r.host = h.name and r.task <> all (p_tasks)
          and not exists (select from inventory.whereabouts w where w.vm = r.vm and w.host = r.host and w.state = 'active')), 0) as free
    from inventory.host h left join inventory.host_load l on l.host = h.name
    where h.name = any (p_hosts)
  ), counted as (
    select a.*, r.resting, coalesce(a.state = 'active', false) as is_there,
      r.free - coalesce(sum(case when a.state = 'active' then 0 else a.mib end) over (
        partition by a.host order by a.ordinal rows between unbounded preceding and 1 preceding), 0)::bigint as free
    from asked a join room r on r.name = a.host
  ), promised as (
    insert into inventory.reservation as r (task, host, vm, memory_mib)
    select c.task, c.host, c.vm, c.mib from counted c where not c.is_there and not c.is_kept_apart and c.free >= c.mib
    on conflict (task) do update set
      host = excluded.host, vm = excluded.vm, memory_mib = excluded.memory_mib, made_at = clock_timestamp()
  )
  select c.task, c.is_there or (not c.is_kept_apart and c.free >= c.mib), c.free + case when c.is_there then c.own_mib else 0 end,
    c.free - c.resting + case when c.state = 'defined' then c.own_mib when c.is_there then c.own_mib else 0 end, c.mib, c.is_there
  from counted c;
end;
$$;

ALTER FUNCTION inventory.reserve_many(p_tasks bigint[], p_hosts text[], p_vms uuid[], p_memory_mib bigint[]) OWNER TO taskomatic_owner;

-- Name: saved_image_is_stale(); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.saved_image_is_stale() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  delete from inventory.saved_image s where s.vm = new.vm and s.generation < new.generation;
  return null;
end
$$;

ALTER FUNCTION inventory.saved_image_is_stale() OWNER TO taskomatic_owner;

-- Name: set_watched_connection(bigint, text, inventory.connection, text); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.set_watched_connection(p_dispatcher bigint, p_host text, p_connection inventory.connection, p_reason text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION inventory.set_watched_connection(p_dispatcher bigint, p_host text, p_connection inventory.connection, p_reason text) OWNER TO taskomatic_owner;

-- Name: settle_vms(uuid[]); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.settle_vms(p_vms uuid[]) RETURNS void
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
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

ALTER FUNCTION inventory.settle_vms(p_vms uuid[]) OWNER TO taskomatic_owner;

-- Name: share_watches(bigint); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.share_watches(p_dispatcher bigint, OUT holds boolean, OUT taken text[], OUT mine text[], OUT excess integer, OUT first boolean, OUT up_elsewhere text[], OUT fleet text) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION inventory.share_watches(p_dispatcher bigint, OUT holds boolean, OUT taken text[], OUT mine text[], OUT excess integer, OUT first boolean, OUT up_elsewhere text[], OUT fleet text) OWNER TO taskomatic_owner;

-- Name: store_room(text, bigint); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.store_room(p_store text, p_task bigint) RETURNS TABLE(capacity_bytes bigint, free_bytes bigint, growing_bytes bigint, reserved_bytes bigint, reserved_by bigint[])
    LANGUAGE sql STABLE
    BEGIN ATOMIC
 SELECT p.capacity_bytes,
     p.available_bytes,
     COALESCE(( SELECT (sum((v.held_bytes - v.allocation_bytes)))::bigint AS sum
            FROM inventory.listed_volumes(store_room.p_store) v(name, held_bytes, allocation_bytes)), (0)::bigint) AS "coalesce",
     COALESCE(q.bytes, (0)::bigint) AS "coalesce",
     COALESCE(q.tasks, '{}'::bigint[]) AS "coalesce"
    FROM (( SELECT max(k.capacity_bytes) AS capacity_bytes,
             COALESCE(min(k.available_bytes) FILTER (WHERE (h.connection = 'up'::inventory.connection)), min(k.available_bytes)) AS available_bytes
            FROM (inventory.pool k
              JOIN inventory.host h ON ((h.name = k.host)))
           WHERE ((k.store = store_room.p_store) AND k.active AND (k.capacity_bytes > 0))) p
      CROSS JOIN LATERAL ( SELECT (sum(r.bytes))::bigint AS bytes,
             array_agg(r.task ORDER BY r.task) AS tasks
            FROM inventory.promised_bytes(store_room.p_store) r(task, bytes)
           WHERE ((r.task <> store_room.p_task) AND (r.bytes > 0))) q)
   WHERE (p.capacity_bytes IS NOT NULL);
END;

ALTER FUNCTION inventory.store_room(p_store text, p_task bigint) OWNER TO taskomatic_owner;

-- Name: sum_loads(text[]); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.sum_loads(p_hosts text[]) RETURNS void
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
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

ALTER FUNCTION inventory.sum_loads(p_hosts text[]) OWNER TO taskomatic_owner;

-- Name: tell_store_room(); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.tell_store_room() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  perform pg_notify('inventory_room', 'store/' || new.store);
  return null;
end
$$;

ALTER FUNCTION inventory.tell_store_room() OWNER TO taskomatic_owner;

-- Name: tell_volumes_gone(); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.tell_volumes_gone() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  perform pg_notify('inventory_room', 'store/' || g.store)
  from (
    select distinct p.store from gone v join inventory.pool p on p.host = v.host and p.name = v.pool
  ) g;
  return null;
end
$$;

ALTER FUNCTION inventory.tell_volumes_gone() OWNER TO taskomatic_owner;

-- Name: usable_mib(bigint); Type: FUNCTION; Schema: inventory

CREATE FUNCTION inventory.usable_mib(memory_mib bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN GREATEST((0)::bigint, (memory_mib - GREATEST((2048)::bigint, (ceil(((memory_mib)::numeric * 0.05)))::bigint)));

ALTER FUNCTION inventory.usable_mib(memory_mib bigint) OWNER TO taskomatic_owner;

-- Name: add_edges(bigint[], bigint[], bigint[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.add_edges(p_task bigint[], p_prerequisite bigint[], p_open bigint[]) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  insert into queue.prerequisite (task, prerequisite, needs, derived)
  select e.task, e.prerequisite, 'ended', true from unnest(p_task, p_prerequisite) as e(task, prerequisite)
  where e.prerequisite = any (p_open)
  on conflict (task, prerequisite) do nothing
$$;

ALTER FUNCTION queue.add_edges(p_task bigint[], p_prerequisite bigint[], p_open bigint[]) OWNER TO taskomatic_owner;

-- Name: add_partitions(bigint); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.add_partitions(p_ahead bigint DEFAULT 2000000) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  width constant bigint := 1000000;
  wanted bigint;
  made integer := 0;
  start bigint;
  name text;
begin
  select (case when is_called then last_value else 0 end) + p_ahead into wanted from queue.position;
  for start in select generate_series(0, wanted, width) loop
    name := 'task_' || lpad((start / width)::text, 6, '0');
    continue when to_regclass('queue.' || name) is not null or exists (
      -- Dropped ones are not made again.
      select from pg_inherits i join pg_class c on c.oid = i.inhrelid
      where i.inhparent = 'queue.task'::regclass and c.relname > name);
    -- Attached, not created as a partition: that would lock out every reader.
    execute format('create table queue.%I (like queue.task including defaults including constraints) with (fillfactor = 60)', name);
    execute format('alter table queue.%I add constraint bounds check (id >= %s and id < %s)', name, start, start + width);
    execute format('alter table queue.task attach partition queue.%I for values from (%s) to (%s)', name, start, start + width);
    execute format('alter table queue.%I drop constraint bounds', name);
    execute format('grant select on queue.%I to taskomatic_client', name);
    made := made + 1;
  end loop;
  return made;
end
$$;

ALTER FUNCTION queue.add_partitions(p_ahead bigint) OWNER TO taskomatic_owner;

-- Name: after_ends(bigint[], bigint[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.after_ends(p_good bigint[], p_bad bigint[]) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  all_ended constant bigint[] := p_good || p_bad;
  dependants bigint[];
  lowered integer[];
  doomed bigint[];
  parents bigint[];
  made integer := 0;
begin
  delete from queue.claim where task = any (all_ended);
  delete from queue.effect where task = any (all_ended);
  delete from queue.cancel_request where task = any (all_ended);

  select array_agg(distinct p.task) into dependants from queue.prerequisite p where p.prerequisite = any (all_ended);
  if dependants is not null then
    perform from queue.wait where task = any (dependants) order by task for update;
    -- In a later statement than that lock: who held a row may have taken edges away and counted without them.
    select array_agg(d.task), array_agg(d.lowers), array_agg(d.doomed_by) into dependants, lowered, doomed
    from (
      select p.task, count(*) filter (where p.needs = 'ended' or p.prerequisite = any (p_good)) as lowers,
        min(p.prerequisite) filter (where p.needs = 'complete' and p.prerequisite = any (p_bad)) as doomed_by
      from queue.prerequisite p where p.prerequisite = any (all_ended)
      group by p.task
    ) d;
  end if;
  if dependants is not null then
    update queue.wait w set unmet = w.unmet - d.lowers, doomed_by = coalesce(w.doomed_by, d.doomed_by)
    from unnest(dependants, lowered, doomed) as d(task, lowers, doomed_by)
    where w.task = d.task;
  end if;

  -- Families before units: making ready may lock the limits.
  select array_agg(f.parent), array_agg(f.ended) into parents, lowered
  from (
    select parent, count(*) as ended from queue.task where id = any (all_ended) and parent is not null group by parent
  ) f;
  if parents is not null then
    made := made + queue.children_ended(parents, lowered);
  end if;
  if dependants is not null then
    made := made + queue.make_ready(dependants);
  end if;

  perform queue.give_back(all_ended);
  return made;
end
$$;

ALTER FUNCTION queue.after_ends(p_good bigint[], p_bad bigint[]) OWNER TO taskomatic_owner;

-- Name: after_unstarted(bigint[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.after_unstarted(p_tasks bigint[]) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  parents bigint[];
  ended integer[];
  made integer := 0;
begin
  delete from queue.claim where task = any (p_tasks);
  delete from queue.effect where task = any (p_tasks);
  delete from queue.cancel_request where task = any (p_tasks);
  select array_agg(f.parent), array_agg(f.ended) into parents, ended
  from (select parent, count(*) as ended from queue.task where id = any (p_tasks) and parent is not null group by parent) f;
  if parents is not null then
    made := queue.children_ended(parents, ended);
  end if;
  return made + queue.give_back(p_tasks);
end
$$;

ALTER FUNCTION queue.after_unstarted(p_tasks bigint[]) OWNER TO taskomatic_owner;

-- Name: ancestors(bigint); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.ancestors(p_task bigint) RETURNS bigint[]
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with recursive up as (
    select id, parent from queue.task where id = p_task
    union all
    select t.id, t.parent from up join queue.task t on t.id = up.parent
  )
  select array_agg(id) from up
$$;

ALTER FUNCTION queue.ancestors(p_task bigint) OWNER TO taskomatic_owner;

-- Name: append_logs(jsonb); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.append_logs(p_lines jsonb) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with living as materialized (
    select id from queue.dispatcher where expires_at > queue.now() for key share
  )
  insert into queue.log (task, attempt, at, level, message, data)
  select l.task, l.attempt, queue.now() - make_interval(secs => l."agoMs" / 1000.0), l.level, l.message, l.data
  from rows from (jsonb_to_recordset(p_lines) as (
    task bigint, attempt integer, "agoMs" float8, level text, message text, data jsonb)) with ordinality
    as l(task, attempt, "agoMs", level, message, data, ordinal)
  where exists (
    select from queue.run r where r.task = l.task and r.attempt = l.attempt
      and (r.phase <> 'running' or r.dispatcher in (select id from living)))
  order by l.ordinal
$$;

ALTER FUNCTION queue.append_logs(p_lines jsonb) OWNER TO taskomatic_owner;

-- Name: attempt_holds(bigint, integer); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.attempt_holds(p_task bigint, p_attempt integer) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform from queue.run where task = p_task and attempt = p_attempt and phase <> 'running';
  if found then
    return true;
  end if;
  perform from queue.run r join queue.dispatcher d on d.id = r.dispatcher
    where r.task = p_task and r.attempt = p_attempt and d.expires_at > queue.now() for key share of d;
  return found;
end
$$;

ALTER FUNCTION queue.attempt_holds(p_task bigint, p_attempt integer) OWNER TO taskomatic_owner;

-- Name: audit_slice(bigint, integer); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.audit_slice(p_from bigint, p_size integer) RETURNS TABLE(next_task bigint, kind text, task bigint, about jsonb)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_custom_plan'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
declare
  slice bigint[];
  find record;
  finds jsonb := '[]';
  rescued bigint[] := '{}';
begin
  -- Open tasks only: partitions full of ended ones are not walked through every few seconds.
  select array_agg(s.task) into slice from (
    select p.task from queue.place p where p.task >= p_from order by p.task limit p_size) s;
  next_task := case when cardinality(slice) = p_size then slice[cardinality(slice)] + 1 end;
  if slice is not null then
    -- One statement, one snapshot: each row of the result is a contradiction within the database, not a race.
    for find in
      with open as (
        select t.id as task, t.outcome, w.task is not null as waits, q.task is not null as is_ready, r.task is not null as runs,
          w.unmet, w.barred, w.position, w.doomed_by, exists (select from queue.runnable x where x.task = t.id) as is_runnable,
          (select count(*) from queue.prerequisite p join queue.task b on b.id = p.prerequisite
            where p.task = t.id and (b.outcome is null or (p.needs = 'complete' and b.outcome <> 'complete'))) as really_unmet,
          (select count(*) from queue.parked p where p.task = t.id) + (select count(*) from queue.held h where h.task = t.id)
            + (select count(*) from queue.scheduled s where s.task = t.id) as really_barred
        from queue.task t
        left join queue.wait w on w.task = t.id left join queue.ready q on q.task = t.id left join queue.run r on r.task = t.id
        where t.id = any (slice)
      )
      select o.task, case
          when o.outcome is not null then 'ended_but_open'
          when o.waits::integer + o.is_ready::integer + o.runs::integer <> 1 then 'not_one_place'
          when o.waits and o.is_runnable and o.position is not null and o.barred = 0 and o.doomed_by is null then 'missed'
          when o.is_ready and not o.is_runnable then 'ready_but_not_runnable'
          when o.waits and (o.unmet <> o.really_unmet or o.barred <> o.really_barred) then 'miscounted'
        end as kind, to_jsonb(o) as about
      from open o
      -- What has ended since the slice was taken has no place any more: that is no find.
      where (o.outcome is not null and (o.waits or o.is_ready or o.runs)) or (o.outcome is null and (
        o.waits::integer + o.is_ready::integer + o.runs::integer <> 1
        or (o.waits and o.is_runnable and o.position is not null and o.barred = 0 and o.doomed_by is null)
        or (o.is_ready and not o.is_runnable)
        or (o.waits and (o.unmet <> o.really_unmet or o.barred <> o.really_barred))))
    loop
      finds := finds || jsonb_build_object('task', find.task, 'kind', find.kind, 'about', find.about);
      if find.kind in ('missed', 'miscounted') then
        rescued := rescued || find.task;
      end if;
    end loop;
  end if;
  if cardinality(rescued) > 0 then
    perform queue.recount(rescued);
    update queue.wait w set barred = (select count(*) from queue.parked p where p.task = w.task)
      + (select count(*) from queue.held h where h.task = w.task) + (select count(*) from queue.scheduled s where s.task = w.task)
      where w.task = any (rescued);
    if queue.make_ready(rescued) > 0 then
      perform queue.wake();
    end if;
  end if;
  perform queue.note_find(f.kind, f.task, f.about) from jsonb_to_recordset(finds) as f(task bigint, kind text, about jsonb);
  return query select next_task, f.kind, f.task, f.about from jsonb_to_recordset(finds) as f(task bigint, kind text, about jsonb);
  if jsonb_array_length(finds) = 0 then
    return next;
  end if;
end
$$;

ALTER FUNCTION queue.audit_slice(p_from bigint, p_size integer) OWNER TO taskomatic_owner;

-- Name: beat(bigint); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.beat(p_dispatcher bigint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  update queue.dispatcher set expires_at = queue.now() + make_interval(secs => lease_ms / 1000.0)
    where id = p_dispatcher and expires_at > queue.now();
  return found;
end
$$;

ALTER FUNCTION queue.beat(p_dispatcher bigint) OWNER TO taskomatic_owner;

-- Name: bind(bigint, bigint, integer, text[], boolean[], jsonb, jsonb); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.bind(p_dispatcher bigint, p_task bigint, p_attempt integer, p_names text[], p_exclusive boolean[], p_bound jsonb, p_limits jsonb DEFAULT NULL::jsonb) RETURNS TABLE(answer text, waits_for bigint[])
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
declare
  t constant timestamptz := queue.now();
  holds constant boolean := queue.lease_holds(p_dispatcher);
  above bigint[];
  others bigint[];
  still_open bigint[];
  mine record;
  blockers bigint[];
  behind_us bigint[];
begin
  waits_for := '{}';
  if not holds then
    answer := 'lease_lost';
    return next;
    return;
  end if;
  -- Beside other bindings, not beside an expansion: that decides whom to wait for by who has started.
  perform pg_advisory_xact_lock_shared(7243003);
  perform queue.take_resources(p_names, p_exclusive);
  above := queue.ancestors(p_task);
  select array_agg(distinct k.task) into others
  from unnest(p_names, p_exclusive) as c(name, exclusive)
  join queue.resource r on r.name = c.name collate "C"
  cross join lateral (
    select x.task, x.position from queue.claim x where c.exclusive and x.resource = r.id
    -- Who shares is not held up by who shares: of thousands on one store none is read.
    union all select x.task, x.position from queue.claim x where not c.exclusive and x.resource = r.id and x.exclusive and not x.own
    union all select x.task, x.position from queue.claim x where not c.exclusive and x.resource = r.id and x.exclusive and x.own
  ) k
  where k.task <> all (above) and k.position is not null;
  still_open := queue.lock_tasks(array[p_task], others);

  select r.*, x.binds into mine from queue.run r join queue.task x on x.id = r.task
    where r.task = p_task and r.attempt = p_attempt and r.dispatcher = p_dispatcher and r.phase = 'running';
  if not found or p_task <> all (still_open) then
    insert into queue.stale_report (at, dispatcher, task, attempt, said) values (t, p_dispatcher, p_task, p_attempt, 'bind');
    answer := 'stale';
    return next;
    return;
  end if;
  if not mine.binds then
    perform queue.refuse('not_binding', format('task %s was submitted without `binds`', p_task), array[p_task]);
  end if;

  -- Its claims become exactly these. Those that it had keep their place in the line, new ones are waited for pair by pair.
  delete from queue.claim k where k.task = p_task and not exists (
    select from unnest(p_names) as c(name) join queue.resource r on r.name = c.name collate "C" where r.id = k.resource);
  insert into queue.claim as k (task, resource, position, exclusive, own)
  select p_task, r.id, mine.position, bool_or(c.exclusive), true
  from unnest(p_names, p_exclusive) as c(name, exclusive) join queue.resource r on r.name = c.name collate "C" group by r.id
  on conflict (task, resource) do update set exclusive = excluded.exclusive, own = k.own or k.exclusive <> excluded.exclusive;
  perform queue.keep_bound(p_task, p_attempt, p_bound, coalesce((
    select jsonb_agg(jsonb_build_object(
      'resource', c.name, 'mode', case when c.exclusive then 'exclusive' else 'shared' end) order by c.name)
    from unnest(p_names, p_exclusive) as c(name, exclusive)), '[]'), t);

  -- Who conflicts and has not started goes behind us: out of the reach of claims first, so that it stays so.
  perform from queue.wait where task = any (others) order by task for update;
  perform queue.make_wait(array(select o from unnest(others) as o where o = any (still_open)));
  select array_agg(o) into blockers from unnest(others) as o
    where o = any (still_open) and (
      exists (select from queue.run r where r.task = o and r.started)
      or exists (select from queue.wait w where w.task = o and w.started));
  select array_agg(o) into behind_us from unnest(others) as o
    where o = any (still_open) and exists (select from queue.wait w where w.task = o and not w.started);

  if blockers is null and (p_limits is null or queue.exchange_units(p_task, p_limits, -mine.priority, mine.position)) then
    update queue.run r set started = true, started_at = queue.now() where r.task = p_task;
    insert into queue.prerequisite (task, prerequisite, needs, derived)
    select o, p_task, 'ended', true from unnest(behind_us) as o on conflict do nothing;
    perform queue.recount(behind_us);
    -- The others as well: whoever granted units passed over those whose rows we hold.
    if queue.make_ready(others) > 0 then
      perform queue.wake();
    end if;
    answer := 'started';
    return next;
    return;
  end if;

  -- What was decided holds for an attempt that starts: this one promises nothing of the next.
  update queue.bound b set bound = b.bound || '{"tentative": true}' where b.task = p_task;
  -- Not free. A started leaf waits for nothing; a parent may wait, through its children, for us.
  if exists (select from queue.family f where f.parent = any (blockers) and f.open > 0) then
    perform pg_advisory_xact_lock(7243004); -- two that check at once would not see each other
    if p_task = any (queue.reached_from(blockers)) then
      perform queue.refuse('circle', format('task %s would wait for itself, through tasks %s', p_task,
        array_to_string(queue.way(blockers, p_task), ', ')), queue.way(blockers, p_task));
    end if;
  end if;
  insert into queue.attempt (task, attempt, dispatcher, started_at, ended_at, outcome, error)
    values (p_task, p_attempt, p_dispatcher, mine.started_at, t, case when blockers is null then 'parked' else 'waiting' end,
      case when blockers is null then jsonb_build_object('code', 'limit_reached', 'message', 'a limit that it needs units of is reached')
      else jsonb_build_object('code', 'claims_not_free',
        'message', 'what it was about to touch is not free', 'details', jsonb_build_object('tasks', to_jsonb(blockers))) end);
  delete from queue.run where task = p_task;
  insert into queue.wait (task, unmet, attempts, started, limited, priority, position, doomed_by)
  values (p_task, 0, p_attempt, false, exists (select from queue.cost c where c.task = p_task), mine.priority, mine.position,
    case when exists (select from queue.cancel_request c where c.task = p_task) then p_task end);
  perform queue.give_back(array[p_task]);
  insert into queue.prerequisite (task, prerequisite, needs, derived)
  select p_task, b, 'ended', true from unnest(blockers) as b on conflict do nothing;
  perform queue.recount(array[p_task] || behind_us);
  -- What has started and was ready is so again, and what is limited asks again: we too, where only units are lacking.
  if queue.make_ready(case when blockers is null then array[p_task] || others else others end) > 0 then
    perform queue.wake();
  end if;
  perform queue.tell(p_changed => array[p_task]);
  answer := case when blockers is null then 'limited' else 'waiting' end;
  waits_for := coalesce(blockers, '{}');
  return next;
end
$$;

ALTER FUNCTION queue.bind(p_dispatcher bigint, p_task bigint, p_attempt integer, p_names text[], p_exclusive boolean[], p_bound jsonb, p_limits jsonb) OWNER TO taskomatic_owner;

-- Name: bind_many(bigint, jsonb); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.bind_many(p_dispatcher bigint, p_binds jsonb) RETURNS TABLE(task bigint, answer text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
declare
  t constant timestamptz := queue.now();
  tasks bigint[]; names text[]; exclusives boolean[]; -- a row a claim
  fit bigint[];
  still_open bigint[];
begin
  if not queue.lease_holds(p_dispatcher) then
    return;
  end if;
  -- Beside other bindings, not beside an expansion: that decides whom to wait for by who has started.
  perform pg_advisory_xact_lock_shared(7243003);
  select array_agg(c.task), array_agg(c.resource), array_agg(c.exclusive) into tasks, names, exclusives from (
    select b.task, l.resource, bool_or(l.mode = 'exclusive') as exclusive
    from jsonb_to_recordset(p_binds) as b(task bigint, claims jsonb)
    cross join lateral jsonb_to_recordset(b.claims) as l(resource text, mode text) group by 1, 2) c;
  -- Names that are new are made by whoever asks alone.
  with claimed as (
    select c.task, c.exclusive, c.name, r.id from unnest(tasks, names, exclusives) as c(task, name, exclusive)
    left join queue.resource r on r.name = c.name collate "C"
  )
  select array_agg(b.task) into fit from jsonb_to_recordset(p_binds) as b(task bigint)
  where b.task not in (select c.task from claimed c where c.id is null)
    -- Two of these that exclude each other.
    and b.task not in (
      select c.task from claimed c join (select d.name from claimed d group by d.name having count(*) > 1 and bool_or(d.exclusive)) both_want
        on both_want.name = c.name);
  select array_agg(c.task), array_agg(c.name), array_agg(c.exclusive) into tasks, names, exclusives
  from unnest(tasks, names, exclusives) as c(task, name, exclusive) where c.task = any (fit);
  perform queue.lock_resources(names, exclusives);
  -- In a later statement than the locks: who has them committed before.
  with claimed as (
    select c.task, c.exclusive, r.id from unnest(tasks, names, exclusives) as c(task, name, exclusive)
    join queue.resource r on r.name = c.name collate "C"
  )
  select array_agg(f) into fit from unnest(fit) as f
  where f not in (
      select c.task from claimed c where c.exclusive and exists (
        select from queue.claim k where k.resource = c.id and k.task <> c.task and k.position is not null))
    -- Who shares is not held up by who shares: of thousands on one store none is read.
    and f not in (
      select c.task from claimed c where not c.exclusive and (
        exists (select from queue.claim k where k.resource = c.id and k.exclusive and not k.own and k.task <> c.task and k.position is not null)
        or exists (select from queue.claim k where k.resource = c.id and k.exclusive and k.own and k.task <> c.task and k.position is not null)))
    and f not in (
      select coalesce(had.task, needs.task)
      from (
        select b.task, l.key, sum(l.units)::integer as units from jsonb_to_recordset(p_binds) as b(task bigint, limits jsonb)
        cross join lateral jsonb_to_recordset(b.limits) as l(key text, units integer)
        where jsonb_typeof(b.limits) = 'array' group by 1, 2) needs
      full join (
        select c.task, c.key, c.units, c.granted from queue.cost c where c.task in (
          select b.task from jsonb_to_recordset(p_binds) as b(task bigint, limits jsonb) where jsonb_typeof(b.limits) = 'array')) had
        on had.task = needs.task and had.key = needs.key and had.units = needs.units
      where had.task is null or needs.task is null or not had.granted);
  still_open := queue.lock_tasks(fit, '{}');
  select array_agg(r.task) into fit
  from jsonb_to_recordset(p_binds) as b(task bigint, attempt integer)
  join queue.run r on r.task = b.task and r.attempt = b.attempt and r.dispatcher = p_dispatcher and r.phase = 'running'
  join queue.task x on x.id = r.task and x.binds
  where b.task = any (still_open);

  if fit is not null then
    delete from queue.claim k where k.task = any (fit) and not exists (
      select from unnest(tasks, names) as c(task, name) join queue.resource r on r.name = c.name collate "C"
      where c.task = k.task and r.id = k.resource);
    insert into queue.claim as k (task, resource, position, exclusive, own)
    select c.task, r.id, q.position, c.exclusive, true
    from unnest(tasks, names, exclusives) as c(task, name, exclusive)
    join queue.resource r on r.name = c.name collate "C" join queue.run q on q.task = c.task
    where c.task = any (fit)
    on conflict (task, resource) do update set exclusive = excluded.exclusive, own = true where k.exclusive <> excluded.exclusive;
    insert into queue.bound as o (task, attempt, bound, claims, at)
    select b.task, b.attempt, case when jsonb_typeof(b.bound) = 'object' then b.bound end, b.claims, t
    from jsonb_to_recordset(p_binds) as b(task bigint, attempt integer, bound jsonb, claims jsonb) where b.task = any (fit)
    on conflict (task) do update set attempt = excluded.attempt, bound = excluded.bound, claims = excluded.claims, at = excluded.at;
    insert into queue.undo_step (task, attempt, step, at)
    select b.task, b.attempt, b.undo, t from jsonb_to_recordset(p_binds) as b(task bigint, attempt integer, undo jsonb)
    where b.task = any (fit) and jsonb_typeof(b.undo) = 'object'
    on conflict (task) do nothing;
    update queue.run r set started = true, started_at = queue.now() where r.task = any (fit);
  end if;
  return query
    select b.task, case when b.task = any (fit) then 'started' else 'alone' end from jsonb_to_recordset(p_binds) as b(task bigint);
end
$$;

ALTER FUNCTION queue.bind_many(p_dispatcher bigint, p_binds jsonb) OWNER TO taskomatic_owner;

-- Name: cancel(bigint, text, text); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.cancel(p_task bigint, p_by text, p_reason text) RETURNS TABLE(answer text, children bigint[])
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_custom_plan'
    AS $$
declare
  is_open boolean;
  ended bigint[];
begin
  children := '{}';
  select t.outcome is null into is_open from queue.task t where t.id = p_task;
  if is_open is null then
    perform queue.refuse('task_not_found', format('task %s not found', p_task), array[p_task]);
  end if;
  answer := 'ended';
  if is_open then
    ended := queue.end_unstarted(array[p_task], 'cancelled', array[jsonb_build_object('code', 'cancelled',
      'message', 'cancelled by ' || p_by || coalesce(': ' || p_reason, ''))]);
    if cardinality(ended) = 1 then
      answer := 'cancelled';
    elsif exists (select from queue.task t where t.id = p_task and t.outcome is null) then
      insert into queue.cancel_request (task, asked_by, reason, at) values (p_task, p_by, p_reason, queue.now())
        on conflict (task) do nothing;
      answer := 'cancelling';
      select coalesce(array_agg(c.id order by c.id), '{}') into children
        from queue.task c where c.parent = p_task and c.outcome is null;
      perform queue.tell(p_changed => array[p_task]);
      perform queue.wake();
    end if;
  end if;
  if answer <> 'ended' then
    perform queue.note(p_task, format('%s asked to cancel it', p_by), case when p_reason is not null then jsonb_build_object('reason', p_reason) end);
  end if;
  return next;
end
$$;

ALTER FUNCTION queue.cancel(p_task bigint, p_by text, p_reason text) OWNER TO taskomatic_owner;

-- Name: cancel_error(bigint); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.cancel_error(p_task bigint) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select jsonb_build_object('code', 'cancelled',
    'message', coalesce('cancelled by ' || c.asked_by || coalesce(': ' || c.reason, ''), 'cancelled'))
  from (select) one left join queue.cancel_request c on c.task = p_task
$$;

ALTER FUNCTION queue.cancel_error(p_task bigint) OWNER TO taskomatic_owner;

-- Name: cancel_requests(bigint); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.cancel_requests(p_dispatcher bigint) RETURNS TABLE(task bigint, asked_by text, reason text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select r.task, c.asked_by, c.reason from queue.cancel_request c join queue.run r on r.task = c.task
  where r.dispatcher = p_dispatcher order by r.task
$$;

ALTER FUNCTION queue.cancel_requests(p_dispatcher bigint) OWNER TO taskomatic_owner;

-- Name: cap_of(text); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.cap_of(p_key text) RETURNS integer
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select coalesce(
    (select cap from queue.cap where key = p_key),
    (select cap from queue.cap where key = split_part(p_key, '/', 1) || '/*'))
$$;

ALTER FUNCTION queue.cap_of(p_key text) OWNER TO taskomatic_owner;

-- Name: children_ended(bigint[], integer[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.children_ended(p_parents bigint[], p_ended integer[]) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  done bigint[];
begin
  perform from queue.family where parent = any (p_parents) order by parent for update;
  with counted as (
    update queue.family f set open = f.open - e.ended
    from unnest(p_parents, p_ended) as e(parent, ended) where f.parent = e.parent
    returning f.parent, f.open
  )
  select array_agg(parent) into done from counted where open = 0;
  return case when done is null then 0 else queue.resume_parents(done) end;
end
$$;

ALTER FUNCTION queue.children_ended(p_parents bigint[], p_ended integer[]) OWNER TO taskomatic_owner;

-- Name: children_of(bigint); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.children_of(p_parent bigint) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select jsonb_agg(jsonb_build_object('id', c.id, 'index', c.index, 'action', c.action, 'title', c.title, 'args', c.args,
    'state', c.outcome, 'result', c.result, 'error', c.error, 'undo', c.step, 'undoes', c.undo -> 'of') order by c.id)
  from (
    select t.id, t.action, t.title, t.args, t.outcome, t.result, t.error, u.step, t.undo, row_number() over (order by t.id) - 1 as index
    from queue.task t left join queue.undo_step u on u.task = t.id where t.parent = p_parent
  ) c
$$;

ALTER FUNCTION queue.children_of(p_parent bigint) OWNER TO taskomatic_owner;

-- Name: closing_edges(bigint[], integer[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.closing_edges(p_leaving bigint[], p_resources integer[] DEFAULT NULL::integer[]) RETURNS TABLE(task bigint, prerequisite bigint)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
declare
  f_resource integer[]; f_position bigint[]; f_task bigint[]; f_exclusive boolean[];
begin
  with gone as (
    select c.resource, c.position, c.exclusive,
      (select max(p.position) from queue.claim p
        where p.resource = c.resource and p.exclusive and not p.own and p.position < c.position and p.task <> all (p_leaving)) as previous,
      (select min(n.position) from queue.claim n
        where n.resource = c.resource and n.exclusive and not n.own and n.position > c.position and n.task <> all (p_leaving)) as next
    from queue.claim c where c.task = any (p_leaving) and not c.own and c.position is not null
      and (p_resources is null or c.resource = any (p_resources))
  ), followers as (
    -- After an exclusive claim: the sharers up to the next exclusive one, and that.
    select f.resource, f.position, f.task, f.exclusive from gone g
    join queue.claim f on f.resource = g.resource and f.position > g.position and f.position <= coalesce(g.next, f.position)
    where g.exclusive and not f.own and f.task <> all (p_leaving)
    union
    -- After a shared one: the next exclusive, and only if no other sharer stands between it and the exclusive before.
    select f.resource, f.position, f.task, f.exclusive from gone g
    join queue.claim f on f.resource = g.resource and f.position = g.next
    where not g.exclusive and not f.own and f.exclusive and not exists (
      select from queue.claim o where o.resource = g.resource and not o.own and not o.exclusive
        and o.position > coalesce(g.previous, 0) and o.position < g.next and o.task <> all (p_leaving))
  ), span as (
    select resource, min(position) as first, max(position) as last from followers group by resource
  ), whole as (
    -- Where one line has several gaps, what stands between them counts as well: what follows the second gap waits for that, not for
    -- what followed the first. Edges that are there already are not added again.
    select c.resource, c.position, c.task, c.exclusive from span s
    join queue.claim c on c.resource = s.resource and c.position between s.first and s.last
    where not c.own and c.task <> all (p_leaving)
  )
  select array_agg(resource), array_agg(position), array_agg(task), array_agg(exclusive)
  into f_resource, f_position, f_task, f_exclusive from whole;
  if f_task is not null then
    return query select * from queue.line_edges(f_resource, f_position, f_task, f_exclusive, p_leaving);
  end if;
end
$$;

ALTER FUNCTION queue.closing_edges(p_leaving bigint[], p_resources integer[]) OWNER TO taskomatic_owner;

-- Name: drop_effects(bigint, integer); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.drop_effects(p_task bigint, p_attempt integer) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  delete from queue.effect where task = p_task
    and queue.attempt_holds(p_task, p_attempt);
  return found;
end
$$;

ALTER FUNCTION queue.drop_effects(p_task bigint, p_attempt integer) OWNER TO taskomatic_owner;

-- Name: end_doomed(integer); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.end_doomed(p_limit integer DEFAULT 100) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_custom_plan'
    AS $$
declare
  doomed bigint[]; errors jsonb[];
  cancelled bigint[];
begin
  select array_agg(w.task order by w.task) into cancelled
    from (select task from queue.wait where doomed_by = task order by task limit p_limit) w;
  if cancelled is not null then
    return cardinality(queue.end_unstarted(cancelled, 'cancelled', (
      select array_agg(queue.cancel_error(task) order by task) from unnest(cancelled) as c(task))));
  end if;
  select array_agg(d.task order by d.task), array_agg(d.error order by d.task) into doomed, errors
  from (
    select w.task, jsonb_build_object(
      'code', 'prerequisite_failed',
      'message', format('it needs task %s (%s), which %s', root.id, root.title,
        case root.outcome when 'failed' then 'failed: ' || coalesce(root.error ->> 'message', '') else 'was cancelled' end),
      'next', format('see task %s; retry it with its dependants', root.id),
      'details', jsonb_build_object('root', root.id, 'prerequisite', b.id)) as error
    from queue.wait w
    join queue.task b on b.id = w.doomed_by
    join queue.task root on root.id = coalesce(
      case when b.error ->> 'code' = 'prerequisite_failed' then (b.error #>> '{details,root}')::bigint end, b.id)
    where w.doomed_by is not null order by w.task limit p_limit
  ) d;
  if doomed is null then
    return 0;
  end if;
  return cardinality(queue.end_unstarted(doomed, 'failed', errors));
end
$$;

ALTER FUNCTION queue.end_doomed(p_limit integer) OWNER TO taskomatic_owner;

-- Name: end_unstarted(bigint[], queue.state, jsonb[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.end_unstarted(p_tasks bigint[], p_outcome queue.state, p_errors jsonb[]) RETURNS bigint[]
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  e_task bigint[]; e_prerequisite bigint[];
  still_open bigint[];
  mine bigint[];
  dependants bigint[];
  made integer;
begin
  perform queue.lock_resources_of(p_tasks);
  select array_agg(e.task), array_agg(e.prerequisite) into e_task, e_prerequisite from queue.closing_edges(p_tasks) e;
  still_open := queue.lock_tasks(p_tasks, e_prerequisite);
  select array_agg(distinct d.task) into dependants from (
    select task from queue.prerequisite where prerequisite = any (p_tasks)
    union select unnest(e_task)) d;

  -- Whoever is in neither has begun. A claim that was just taking it from ready is waited for.
  perform from queue.wait where task = any (p_tasks || dependants) order by task for update;
  perform from queue.ready where task = any (p_tasks) order by task for update;
  with waiting as (
      delete from queue.wait w where w.task = any (p_tasks) and not (w.started and exists (select from queue.family f where f.parent = w.task))
      returning w.task, w.attempts, w.behind),
    at_hand as (
      delete from queue.ready r where r.task = any (p_tasks) and not (r.started and exists (select from queue.family f where f.parent = r.task))
      returning r.task, r.attempts),
    written as (
      update queue.task t set outcome = p_outcome, error = e.error, attempts = g.attempts, ended_at = queue.now()
      from (select task, attempts from waiting union all select task, attempts from at_hand) g
      join unnest(p_tasks, p_errors) as e(task, error) on e.task = g.task
      where t.id = g.task and t.id = any (p_tasks)
      returning t.id
    )
  select coalesce(array_agg(id), '{}') into mine from written;
  if cardinality(mine) = 0 then
    return mine;
  end if;
  delete from queue.held where task = any (mine);
  delete from queue.scheduled where task = any (mine);
  delete from queue.parked where task = any (mine);
  perform queue.add_edges(e_task, e_prerequisite, still_open);
  perform queue.recount(dependants);
  -- Its own dependants are counted already; after_ends, which counts down, must not see them.
  made := queue.after_unstarted(mine) + queue.make_ready(dependants);
  perform queue.tell(p_ended => mine);
  if made > 0 then
    perform queue.wake();
  end if;
  return mine;
end
$$;

ALTER FUNCTION queue.end_unstarted(p_tasks bigint[], p_outcome queue.state, p_errors jsonb[]) OWNER TO taskomatic_owner;

-- Name: ensure_resources(text[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.ensure_resources(p_names text[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_custom_plan'
    AS $$
  insert into queue.resource (name)
  select distinct n.name collate "C" from unnest(p_names) as n(name)
  where not exists (select from queue.resource r where r.name = n.name collate "C")
  order by 1
  on conflict (name) do nothing
$$;

ALTER FUNCTION queue.ensure_resources(p_names text[]) OWNER TO taskomatic_owner;

-- Name: exchange_units(bigint, jsonb, smallint, bigint); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.exchange_units(p_task bigint, p_limits jsonb, p_rank smallint, p_position bigint) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  freed text[];
  has_all boolean;
begin
  if not exists (
    select from (select c.key, c.units, c.granted from queue.cost c where c.task = p_task) had
    full join (select l.key, sum(l.units)::integer as units from jsonb_to_recordset(p_limits) as l(key text, units integer) group by l.key) needs
      on needs.key = had.key and needs.units = had.units
    where had.key is null or needs.key is null or not had.granted) then
    return true;
  end if;
  perform from queue.limit_lock for update;
  with gone as (
    delete from queue.cost c where c.task = p_task and not exists (
      select from jsonb_to_recordset(p_limits) as l(key text, units integer) where l.key = c.key group by l.key having sum(l.units) = c.units)
    returning c.key
  )
  select array_agg(key) into freed from gone;
  insert into queue.cost (task, key, units, rank, position)
  select p_task, l.key, sum(l.units), p_rank, p_position
  from jsonb_to_recordset(p_limits) as l(key text, units integer) group by l.key
  on conflict (task, key) do nothing;
  has_all := not exists (
    select from queue.cost c where c.task = p_task and not c.granted
      and (c.units > queue.room(c.key) or exists (select from queue.cost q where q.queued and q.key = c.key)));
  if has_all then
    update queue.cost set granted = true where task = p_task and not granted;
  end if;
  if freed is not null then
    perform queue.grant_units(freed);
  end if;
  return has_all;
end
$$;

ALTER FUNCTION queue.exchange_units(p_task bigint, p_limits jsonb, p_rank smallint, p_position bigint) OWNER TO taskomatic_owner;

-- Name: expand(bigint, bigint, integer, jsonb); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.expand(p_dispatcher bigint, p_task bigint, p_attempt integer, p_children jsonb) RETURNS TABLE(kind text, child integer, id bigint, error jsonb)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_custom_plan'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
declare
  n constant integer := jsonb_array_length(p_children);
  t constant timestamptz := queue.now();
  holds boolean;
  parent record;
  parent_run record;
  above bigint[];
  parent_path bigint[];
  ids bigint[];
  c_index integer[]; c_name text[]; c_exclusive boolean[]; c_resource integer[];
  others bigint[];      -- open tasks whose claims conflict with a child's
  named bigint[];       -- stored tasks that explicit edges name
  still_open bigint[];
  back bigint[];
  begun bigint[];       -- of `others`: has an attempt
  moved bigint[] := '{}';
  one record;
  mine bigint;
  asked bigint[]; asked_needs queue.needs[];
  forced bigint[];     -- edges of it that cannot be turned round
  earlier bigint[]; later bigint[]; first bigint[]; reached bigint[];
  reach bigint[]; reach_earlier bigint[];
  bad_id bigint; bad_code text;
  circle bigint[];
  refused bigint[] := '{}'; errors jsonb[] := '{}';
  made integer;
begin
  if n <= 10 then
    perform set_config('plan_cache_mode', 'force_generic_plan', true); -- until the function returns
  end if;
  if n < 1 or n > 10000 then
    perform queue.refuse('too_many_tasks', format('a task expands into 1 to 10,000 children, not %s', n), array[p_task]);
  end if;
  holds := queue.lease_holds(p_dispatcher);
  perform pg_advisory_xact_lock(7243003);
  if not holds then
    kind := 'lease_lost';
    return next;
    return;
  end if;

  select array_agg(c.index), array_agg(c.resource), array_agg(c.exclusive) into c_index, c_name, c_exclusive
  from (
    select e.index, c.resource, bool_or(c.mode = 'exclusive') as exclusive
    from jsonb_array_elements(p_children) with ordinality as e(task, index)
    cross join lateral jsonb_to_recordset(e.task -> 'claims') as c(resource text, mode text)
    group by e.index, c.resource
  ) c;
  -- All of them as if exclusive: others are put behind the children, whatever their mode.
  if c_name is not null then
    perform queue.lock_resources(c_name, array_fill(true, array[cardinality(c_name)]));
    select array_agg(c.index), array_agg(r.id), array_agg(c.exclusive) into c_index, c_resource, c_exclusive
    from unnest(c_index, c_name, c_exclusive) as c(index, name, exclusive)
    join queue.resource r on r.name = c.name collate "C";
  end if;
  above := queue.ancestors(p_task);
  select array_agg(distinct k.task) into others
  from unnest(c_resource, c_exclusive) as c(resource, exclusive)
  join queue.claim k on k.resource = c.resource and (k.exclusive or c.exclusive) and k.position is not null
  where k.task <> all (above);
  select array_agg(distinct a.task) into named
  from jsonb_array_elements(p_children) as e(task)
  cross join lateral jsonb_to_recordset(e.task -> 'after') as a(task bigint) where e.task ? 'after' and a.task is not null;

  still_open := queue.lock_tasks(array[p_task], others || named);
  select r.* into parent_run from queue.run r
    where r.task = p_task and r.attempt = p_attempt and r.dispatcher = p_dispatcher and r.phase = 'running';
  if not found or p_task <> all (still_open) then
    insert into queue.stale_report (at, dispatcher, task, attempt, said) values (t, p_dispatcher, p_task, p_attempt, 'expand');
    kind := 'stale';
    return next;
    return;
  end if;
  -- Asked to stop before it had any; one that has some goes on, to tidy up.
  if exists (select from queue.cancel_request c where c.task = p_task)
    and not exists (select from queue.family f where f.parent = p_task) then
    kind := 'cancelled';
    return next;
    return;
  end if;
  select x.* into parent from queue.task x where x.id = p_task;
  parent_path := coalesce(parent.path, array[parent_run.position]);

  -- Whoever is ready and conflicts may have to wait again: out of reach of claims until we are done.
  perform from queue.wait where task = any (others) order by task for update;
  back := queue.make_wait(array(select o from unnest(others) as o where o = any (still_open)));
  select coalesce(array_agg(r.task), '{}') into begun from queue.run r where r.task = any (others);
  select begun || coalesce(array_agg(w.task), '{}') into begun from queue.wait w where w.task = any (others) and w.started;

  select array_agg(nextval('queue.position')) into ids from generate_series(1, n);
  insert into queue.task (
    id, action, title, args, claims, effects, limits, undo, plan, parent, path, priority, not_before, binds, created_by, reason, created_at)
  select ids[e.index], e.task ->> 'action', e.task ->> 'title', e.task -> 'args', e.task -> 'claims', e.task -> 'effects',
    e.task -> 'limits', e.task -> 'undo', parent.plan, p_task, parent_path || ids[e.index],
    coalesce((e.task ->> 'priority')::smallint, parent.priority), (e.task ->> 'notBefore')::timestamptz,
    (e.task ->> 'binds')::boolean, parent.created_by, parent.reason, t
  from jsonb_array_elements(p_children) with ordinality as e(task, index);
  insert into queue.claim (task, resource, position, exclusive, own)
  select ids[c.index], c.resource, parent_path[1], c.exclusive, true from unnest(c_index, c_resource, c_exclusive) as c(index, resource, exclusive);
  insert into queue.effect (task, ordinal, subject)
  select ids[e.index], f.ordinal - 1, f.effect ->> 'subject'
  from jsonb_array_elements(p_children) with ordinality as e(task, index)
  cross join lateral jsonb_array_elements(e.task -> 'effects') with ordinality as f(effect, ordinal);
  insert into queue.cost (task, key, units, rank)
  select ids[e.index], l.key, sum(l.units), -coalesce((e.task ->> 'priority')::smallint, parent.priority)
  from jsonb_array_elements(p_children) with ordinality as e(task, index)
  cross join lateral jsonb_to_recordset(e.task -> 'limits') as l(key text, units integer)
  where e.task ? 'limits' group by e.index, l.key, e.task;
  insert into queue.held (task, reason, held_by, since)
  select ids[e.index], e.task #>> '{hold,reason}', parent.created_by, t
  from jsonb_array_elements(p_children) with ordinality as e(task, index) where e.task ? 'hold';
  insert into queue.scheduled (task, due)
  select ids[e.index], (e.task ->> 'notBefore')::timestamptz
  from jsonb_array_elements(p_children) with ordinality as e(task, index) where (e.task ->> 'notBefore')::timestamptz > t;
  insert into queue.wait (task, unmet, barred, limited, priority, position)
  select x.id, 0, (h.task is not null)::integer + (s.task is not null)::integer, x.limits is not null, x.priority, parent_path[1]
  from queue.task x left join queue.held h on h.task = x.id left join queue.scheduled s on s.task = x.id
  where x.id = any (ids);

  -- Who conflicts with each child, its elder siblings among them, by what they are; asked once for all children. What is begun,
  -- and whose position is what, does not change any more under our locks.
  for one in
    with other as (
      select o.task, coalesce(x.path, array[p.position]) as position, o.task = any (begun) as begun
      from unnest(others) as o(task) join queue.task x on x.id = o.task join queue.place p on p.task = o.task
      where o.task = any (still_open) and x.id = any (others)
    ), mine as (
      select c.index, c.resource, c.exclusive from unnest(c_index, c_resource, c_exclusive) as c(index, resource, exclusive)
    ), conflict as (
      select m.index, o.task, case when o.begun then 's' when o.position < parent_path || ids[m.index] then 'e' else 'l' end as class
      from mine m join queue.claim k on k.resource = m.resource and (k.exclusive or m.exclusive) and k.position is not null
      join other o on o.task = k.task
      union
      select m.index, ids[e.index], 'e'
      from mine m join mine e on e.resource = m.resource and e.index < m.index and (e.exclusive or m.exclusive)
    ), sorted as (
      select index, array_agg(task) filter (where class = 's') as started, array_agg(task) filter (where class = 'e') as earlier,
        array_agg(task) filter (where class = 'l') as later
      from conflict group by index
    )
    select i.index, s.started, s.earlier, s.later, p_children -> (i.index - 1) -> 'after' as after
    from generate_series(1, n) as i(index) left join sorted s on s.index = i.index
    order by i.index
  loop
    mine := ids[one.index];
    bad_code := null;
    asked := null; asked_needs := null;
    if one.after is not null then
      select array_agg(a.prerequisite), array_agg(a.needs) into asked, asked_needs
      from (
        select coalesce(a.task, case when a.element >= 0 and a.element < one.index - 1 then ids[a.element + 1] end) as prerequisite, a.needs
        from jsonb_to_recordset(one.after) as a(task bigint, element integer, needs queue.needs)
      ) a;
      select a.prerequisite, case
          when a.prerequisite is null then 'later_position'
          when b.id is null then 'task_not_found'
          when a.needs = 'complete' and b.outcome <> 'complete' then 'prerequisite_ended_badly'
          else 'later_position'
        end
      into bad_id, bad_code
      from unnest(asked, asked_needs) as a(prerequisite, needs) left join queue.task b on b.id = a.prerequisite
      where a.prerequisite is null or b.id is null or (a.needs = 'complete' and b.outcome <> 'complete')
        or (b.outcome is null and a.prerequisite <> all (ids)
          and (queue.position_of(a.prerequisite) is null or queue.position_of(a.prerequisite) > parent_path || mine))
      limit 1;
    end if;

    earlier := array(select e from unnest(one.earlier) as e where e <> all (refused));
    forced := asked || one.started;
    reach := case when forced is null then '{}' else queue.reached_from(forced) end;
    if bad_code is null and p_task = any (reach) then
      circle := queue.way(forced, p_task) || mine;
      bad_code := 'circle';
    end if;
    if bad_code is not null then
      kind := 'refused'; child := one.index - 1; id := mine;
      error := jsonb_build_object('code', bad_code, 'message', case bad_code
        when 'circle' then format('it would wait for itself, through tasks %s', array_to_string(circle, ', '))
        when 'task_not_found' then format('task %s not found', bad_id)
        when 'later_position' then format('it may only come after what stands before it, unlike %s', coalesce('task ' || bad_id, 'a later child'))
        else format('task %s is needed, but it has not ended well', bad_id) end);
      refused := refused || mine; errors := errors || error;
      return next;
      continue;
    end if;

    first := null;
    if cardinality(earlier) > 0 then
      reach_earlier := queue.reached_from(earlier);
      if p_task = any (reach_earlier) then
        -- Some of them would close a circle: which, is asked one by one.
        select array_agg(e) filter (where p_task = any (queue.reached_from(array[e]))),
          array_agg(e) filter (where p_task <> all (queue.reached_from(array[e])))
        into first, earlier from unnest(earlier) as e;
        reach_earlier := queue.reached_from(earlier);
      end if;
      reach := reach || reach_earlier;
    end if;
    later := array(select l from unnest(one.later) as l where l <> all (reach));
    reached := array(select l from unnest(one.later) as l where l = any (reach));

    if forced is not null or cardinality(earlier) > 0 or cardinality(reached) > 0 then
      insert into queue.prerequisite (task, prerequisite, needs, derived)
      select mine, a.prerequisite, min(a.needs), bool_and(a.derived)
      from (
        select u.prerequisite, u.needs, false as derived from unnest(asked, asked_needs) as u(prerequisite, needs)
        union all
        select e, 'ended', true from unnest(one.started || earlier || reached) as e
      ) a group by a.prerequisite;
    end if;
    if cardinality(later) > 0 or first is not null then
      insert into queue.prerequisite (task, prerequisite, needs, derived)
      select l, mine, 'ended', true from unnest(later || first) as l on conflict do nothing;
      moved := moved || later || first;
    end if;

    kind := 'child'; child := one.index - 1; id := mine; error := null;
    return next;
  end loop;

  if cardinality(refused) > 0 then
    update queue.task x set outcome = 'failed', ended_at = t, error = r.error
      from unnest(refused, errors) as r(id, error) where x.id = r.id and x.id = any (refused);
    delete from queue.claim where task = any (refused);
    delete from queue.effect where task = any (refused);
    delete from queue.cost where task = any (refused);
    delete from queue.wait where task = any (refused);
    delete from queue.held where task = any (refused);
    delete from queue.scheduled where task = any (refused);
  end if;

  insert into queue.attempt (task, attempt, dispatcher, started_at, ended_at, outcome)
    values (p_task, p_attempt, p_dispatcher, parent_run.started_at, t, 'expanded');
  update queue.run r set phase = 'awaiting', dispatcher = null, awaiting = 'children', started = true where r.task = p_task;
  insert into queue.family (parent, open) values (p_task, n - cardinality(refused))
    on conflict (parent) do update set open = family.open + excluded.open;
  perform queue.give_back(array[p_task]);
  perform queue.recount(ids || moved || back);
  -- The others as well: whoever granted units passed over those whose rows we hold.
  made := queue.make_ready(ids || moved || back || others);
  if cardinality(refused) = n then
    made := made + queue.resume_parents(array[p_task]);
  end if;
  perform queue.tell(p_submitted => ids, p_changed => array[p_task] || moved, p_ended => refused);
  if made > 0 then
    perform queue.wake();
  end if;
end
$$;

ALTER FUNCTION queue.expand(p_dispatcher bigint, p_task bigint, p_attempt integer, p_children jsonb) OWNER TO taskomatic_owner;

-- Name: give_back(bigint[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.give_back(p_tasks bigint[]) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  keys text[];
begin
  if not exists (select from queue.cost where task = any (p_tasks) and (granted or queued)) then
    return 0;
  end if;
  perform from queue.limit_lock for update;
  with freed as (
    update queue.cost set granted = false, queued = false where task = any (p_tasks) and (granted or queued) returning key
  )
  select array_agg(distinct key) into keys from freed;
  -- Who no longer queues is not parked for it.
  with aside as (
    delete from queue.parked where task = any (p_tasks) and key = 'limit' returning task
  )
  update queue.wait w set barred = barred - 1 from aside where w.task = aside.task;
  return queue.grant_units(keys);
end
$$;

ALTER FUNCTION queue.give_back(p_tasks bigint[]) OWNER TO taskomatic_owner;

-- Name: give_verdict(bigint, boolean, text, text); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.give_verdict(p_task bigint, p_happened boolean, p_by text, p_reason text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  t constant timestamptz := queue.now();
  locked bigint[];
  gone record;
  made integer;
begin
  locked := queue.lock_tasks(array[p_task], '{}');
  if cardinality(locked) = 0 then
    perform queue.refuse(case when exists (select from queue.task x where x.id = p_task) then 'already_ended' else 'task_not_found' end,
      case when exists (select from queue.task x where x.id = p_task) then format('task %s has ended', p_task)
        else format('task %s not found', p_task) end, array[p_task]);
  end if;
  delete from queue.run r where r.task = p_task and r.phase = 'uncertain'
    returning r.attempt, r.started_at, r.evidence into gone;
  if gone.attempt is null then
    perform queue.refuse('not_uncertain',
      format('task %s is not uncertain: a verdict is given only where nobody can tell whether it happened', p_task), array[p_task]);
  end if;
  insert into queue.verdict (task, attempt, happened, given_by, reason, evidence, at)
  values (p_task, gone.attempt, p_happened, p_by, p_reason, gone.evidence, t);
  update queue.task x set outcome = case when p_happened then 'complete' else 'failed' end::queue.state,
    attempts = gone.attempt, started_at = gone.started_at, ended_at = t,
    result = case when p_happened then jsonb_build_object('verdict', 'happened', 'by', p_by, 'reason', p_reason) end,
    error = case when not p_happened then jsonb_build_object('code', 'verdict_did_not',
      'message', format('%s said that it did not happen: %s', p_by, p_reason), 'next', format('try it again: `taskomatic task retry %s`', p_task)) end
    where x.id = p_task;
  made := queue.after_ends(case when p_happened then array[p_task] else '{}' end, case when p_happened then '{}' else array[p_task] end);
  perform queue.note(p_task, format('%s gave the verdict: it %s', p_by, case when p_happened then 'happened' else 'did not happen' end),
    jsonb_build_object('reason', p_reason), 'warn');
  perform queue.tell(p_ended => array[p_task]);
  if made > 0 then
    perform queue.wake();
  end if;
end
$$;

ALTER FUNCTION queue.give_verdict(p_task bigint, p_happened boolean, p_by text, p_reason text) OWNER TO taskomatic_owner;

-- Name: grant_units(text[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.grant_units(p_keys text[]) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  queued refcursor;
  candidate bigint;
  its_keys text[];
  lacking text[];
  keys text[];
  full_keys text[] := '{}';
  made integer := 0;
begin
  select array_agg(k) into keys from unnest(p_keys) as k
    where queue.room(k) > 0 and exists (select from queue.cost c where c.queued and c.key = k);
  if keys is null then
    return 0;
  end if;
  if cardinality(keys) = 1 then
    -- Along the index, as far as there is room: of 10,000 that queue one is read.
    open queued for select c.task, null::text[] from queue.cost c where c.queued and c.key = keys[1] order by c.rank, c.position, c.task;
  else
    open queued for
      select c.task, array_agg(c.key) from queue.cost c where c.queued and c.key = any (keys)
      group by c.rank, c.position, c.task order by c.rank, c.position, c.task;
  end if;
  loop
    exit when full_keys @> keys;
    fetch queued into candidate, its_keys;
    exit when not found;
    continue when its_keys <@ full_keys;
    -- Held, or put behind a child, since it queued: it does not take part until that has passed. Who has its row is about to
    -- end or to place it, may be waiting for our lock, and asks again (make_ready, give_back) when that is done.
    perform from queue.wait
      where task = candidate and unmet = 0 and barred = 1 and doomed_by is null and position is not null for update skip locked;
    continue when not found;
    -- More than there ever is: it waits for the cap to be raised, and keeps nobody from what is left.
    continue when exists (
      select from queue.cost c where c.task = candidate and c.units > queue.cap_of(c.key));
    select coalesce(array_agg(c.key), '{}') into lacking from queue.cost c
      where c.task = candidate and (c.key = any (full_keys) or c.units > queue.room(c.key));
    if cardinality(lacking) > 0 then
      full_keys := full_keys || lacking;
      continue;
    end if;
    update queue.cost set granted = true, queued = false where task = candidate;
    delete from queue.parked where task = candidate and key = 'limit';
    with clear as (
      delete from queue.wait where task = candidate returning task, priority, position, attempts, started
    )
    insert into queue.ready (task, rank, position, attempts, started, since)
    select task, -priority, position, attempts, started, queue.now() from clear;
    made := made + 1;
  end loop;
  close queued;
  -- Whoever gave back may not look at what that made ready.
  if made > 0 then
    perform queue.wake();
  end if;
  return made;
end
$$;

ALTER FUNCTION queue.grant_units(p_keys text[]) OWNER TO taskomatic_owner;

-- Name: guard_poll(integer); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.guard_poll(p_size integer DEFAULT 5000) RETURNS TABLE(kind text, task bigint, about jsonb)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  from_task bigint;
  found_row record;
  next_from bigint := 0;
  parked bigint[];
  lost bigint[];
begin
  perform queue.add_partitions();
  -- Whoever comes second looks elsewhere next time.
  select a.next_task into from_task from queue.audit a for update skip locked;
  if from_task is null then
    return;
  end if;
  for found_row in select * from queue.audit_slice(from_task, p_size) loop
    next_from := coalesce(found_row.next_task, 0);
    if found_row.kind is not null then
      kind := found_row.kind; task := found_row.task; about := found_row.about;
      return next;
    end if;
  end loop;
  update queue.audit set next_task = next_from;

  -- Claims of what has ended: there must be none, whatever happened on the way.
  for task in
    select distinct c.task from queue.claim c join queue.task x on x.id = c.task and x.outcome is not null limit 100
  loop
    kind := 'claim_of_ended'; about := '{}';
    delete from queue.claim c where c.task = guard_poll.task;
    perform queue.note_find(kind, task, about);
    return next;
  end loop;
  -- Parked for units that are there, or queued for none: nothing would wake it any more.
  if exists (select from queue.parked where key = 'limit') then
    perform from queue.limit_lock for update;
    parked := array(
      select w.task from queue.wait w join queue.parked p on p.task = w.task and p.key = 'limit'
      where w.unmet = 0 and w.barred = 1 and w.doomed_by is null);
    lost := array(
      select w.task from queue.wait w where w.task in (
        select c.task from queue.cost c where c.task = any (parked) and not c.queued and not c.granted)
      for update skip locked);
    update queue.cost set queued = true where task = any (lost);
    -- Who is granted something now was forgotten; who stands behind one that needs more than there is, was not.
    if queue.grant_units(array(select distinct key from queue.cost where task = any (parked))) > 0 then
      for task in select r.task from queue.ready r where r.task = any (parked) order by 1 loop
        kind := 'parked_beside_free_units'; about := '{}';
        perform queue.note_find(kind, task, about);
        return next;
      end loop;
      perform queue.wake();
    end if;
  end if;
  -- A parent that awaits children although all have ended.
  for task in
    select r.task from queue.run r
    where r.phase = 'awaiting' and r.dispatcher is null
      and not exists (select from queue.task c where c.parent = r.task and c.outcome is null)
  loop
    kind := 'missed'; about := '{"awaiting": "children"}';
    perform queue.resume_parents(array[task]);
    perform queue.wake();
    perform queue.note_find(kind, task, about);
    return next;
  end loop;
end
$$;

ALTER FUNCTION queue.guard_poll(p_size integer) OWNER TO taskomatic_owner;

-- Name: hold(bigint, text, text); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.hold(p_task bigint, p_reason text, p_by text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_custom_plan'
    AS $$
declare
  leaving bigint[];
  keeps_place boolean;
  e_task bigint[]; e_prerequisite bigint[];
  still_open bigint[];
  affected bigint[];
  is_open boolean;
begin
  select outcome is null, parent is not null into is_open, keeps_place from queue.task where id = p_task;
  if is_open is null then
    perform queue.refuse('task_not_found', format('task %s not found', p_task), array[p_task]);
  elsif not is_open then
    perform queue.refuse('already_ended', format('task %s has ended', p_task), array[p_task]);
  end if;
  leaving := queue.needing(array[p_task]);
  keeps_place := keeps_place
    or exists (select from queue.task where id = any (leaving) and parent is not null)
    or exists (select from queue.place where task = p_task and (attempts > 0 or position is null));
  if keeps_place then
    leaving := array[p_task];
  else
    perform queue.lock_resources_of(leaving);
    select array_agg(e.task), array_agg(e.prerequisite) into e_task, e_prerequisite from queue.closing_edges(leaving) e;
  end if;
  still_open := queue.lock_tasks(leaving, e_prerequisite);
  if not keeps_place and queue.needing(array[p_task]) is distinct from leaving then
    raise exception using errcode = '40001', message = 'what needs the task changed in the same moment';
  end if;
  select array_agg(distinct d.task) into affected from (
    select task from queue.prerequisite where prerequisite = any (leaving)
    union select unnest(e_task) union select unnest(leaving)) d;
  perform from queue.wait where task = any (affected) order by task for update;
  perform queue.make_wait(array[p_task]);
  if not exists (select from queue.wait where task = p_task) then
    perform queue.refuse(
      case when p_task = any (still_open) then 'already_started' else 'already_ended' end,
      format('task %s is not waiting any more', p_task), array[p_task]);
  end if;
  insert into queue.held (task, reason, held_by, since) values (p_task, p_reason, p_by, queue.now())
    on conflict (task) do nothing;
  if found then
    update queue.wait set barred = barred + 1 where task = p_task;
  else
    update queue.held set reason = p_reason, held_by = p_by where task = p_task;
  end if;
  if not keeps_place then
    delete from queue.prerequisite where derived and (task = any (leaving) or prerequisite = any (leaving));
    perform queue.add_edges(e_task, e_prerequisite, still_open);
    -- In the lines that it joins anew it stands as everybody does, whatever it was rewritten to.
    update queue.claim set position = null, own = false where task = any (leaving);
    update queue.wait set position = null where task = any (leaving);
    perform queue.recount(affected);
    -- Without a place they queue for no units either: they ask when they have a new one.
    if queue.make_ready(affected) + queue.give_back(leaving) > 0 then
      perform queue.wake();
    end if;
  end if;
  perform queue.note(p_task, format('held by %s: %s', p_by, p_reason));
  perform queue.tell(p_changed => leaving);
end
$$;

ALTER FUNCTION queue.hold(p_task bigint, p_reason text, p_by text) OWNER TO taskomatic_owner;

-- Name: is_orphan(queue.run, timestamp with time zone, bigint, bigint[], integer[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.is_orphan(r queue.run, p_at timestamp with time zone, p_dispatcher bigint, p_tasks bigint[], p_attempts integer[]) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select case r.phase
    when 'running' then
      case when r.dispatcher = p_dispatcher then p_tasks is not null and not exists (
          select from unnest(p_tasks, p_attempts) as h(task, attempt) where h.task = r.task and h.attempt = r.attempt)
        else not exists (select from queue.dispatcher d where d.id = r.dispatcher) end
    when 'awaiting' then coalesce(r.deadline < p_at, false)
    else false end
$$;

ALTER FUNCTION queue.is_orphan(r queue.run, p_at timestamp with time zone, p_dispatcher bigint, p_tasks bigint[], p_attempts integer[]) OWNER TO taskomatic_owner;

-- Name: is_recorded(bigint, integer, text); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.is_recorded(p_task bigint, p_attempt integer, p_said text) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select exists (
      select from queue.task t where t.id = p_task and t.attempts = p_attempt
        -- What someone asked to cancel was not tried again.
        and (t.outcome::text = p_said or (t.outcome = 'cancelled' and p_said in ('retry', 'park'))))
    or (p_said in ('retry', 'park') and (
      exists (select from queue.attempt a where a.task = p_task and a.attempt = p_attempt
        and a.outcome in ('retry', 'parked', 'waiting', 'expanded'))
      or exists (select from queue.run r where r.task = p_task and r.attempt = p_attempt and r.dispatcher is null)))
$$;

ALTER FUNCTION queue.is_recorded(p_task bigint, p_attempt integer, p_said text) OWNER TO taskomatic_owner;

-- Name: keep_bound(bigint, integer, jsonb, jsonb, timestamp with time zone); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.keep_bound(p_task bigint, p_attempt integer, p_bound jsonb, p_claims jsonb, p_at timestamp with time zone) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  insert into queue.bound as b (task, attempt, bound, claims, at) values (p_task, p_attempt, p_bound, p_claims, p_at)
  on conflict (task) do update set attempt = excluded.attempt, bound = excluded.bound, claims = excluded.claims, at = excluded.at
$$;

ALTER FUNCTION queue.keep_bound(p_task bigint, p_attempt integer, p_bound jsonb, p_claims jsonb, p_at timestamp with time zone) OWNER TO taskomatic_owner;

-- Name: keep_undo(bigint, integer, jsonb); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.keep_undo(p_task bigint, p_attempt integer, p_step jsonb) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  insert into queue.undo_step (task, attempt, step, at)
  select p_task, p_attempt, p_step, queue.now() where queue.attempt_holds(p_task, p_attempt)
  on conflict (task) do nothing;
  return found;
end
$$;

ALTER FUNCTION queue.keep_undo(p_task bigint, p_attempt integer, p_step jsonb) OWNER TO taskomatic_owner;

-- Name: lease_holds(bigint); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.lease_holds(p_dispatcher bigint) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform from queue.dispatcher where id = p_dispatcher and expires_at > queue.now() for key share;
  return found;
end
$$;

ALTER FUNCTION queue.lease_holds(p_dispatcher bigint) OWNER TO taskomatic_owner;

-- Name: line_edges(integer[], bigint[], bigint[], boolean[], bigint[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.line_edges(p_resource integer[], p_position bigint[], p_task bigint[], p_exclusive boolean[], p_without bigint[]) RETURNS TABLE(task bigint, prerequisite bigint)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
begin
  return query
  with fresh as (
    select * from unnest(p_resource, p_position, p_task, p_exclusive) as f(resource, position, task, exclusive)
  ), touched as (
    select resource, min(position) as first, bool_or(exclusive) as any_exclusive from fresh group by resource
  ), head as ( -- of each line's tail: the last exclusive before
    select t.resource, t.first, t.any_exclusive, x.position, x.task
    from touched t left join lateral (
      select c.position, c.task from queue.claim c
      where c.resource = t.resource and c.exclusive and not c.own and c.position < t.first
        and (p_without is null or c.task <> all (p_without))
      order by c.position desc limit 1
    ) x on true
  ), stream as (
    select resource, position, task, exclusive, true as fresh from fresh
    union all
    select resource, position, task, true, false from head where task is not null
    union all
    -- Who shares waits for no other sharer: with 100,000 of them on a host this part is not read.
    select h.resource, c.position, c.task, false, false
    from head h join queue.claim c on c.resource = h.resource and c.position > coalesce(h.position, 0) and c.position < h.first
    where h.any_exclusive and not c.exclusive and not c.own and (p_without is null or c.task <> all (p_without))
  ), line as (
    select *, lag(task) over w as before, lag(exclusive) over w as before_exclusive,
      (max(array[position, task]) filter (where exclusive) over (w rows between unbounded preceding and 1 preceding))[2] as last_exclusive,
      (min(array[position, task]) filter (where exclusive and fresh) over (v rows between unbounded preceding and 1 preceding))[2] as next_exclusive
    from stream window w as (partition by resource order by position), v as (partition by resource order by position desc)
  )
  select task, last_exclusive from line where fresh and not exclusive and last_exclusive is not null
  union
  select next_exclusive, task from line where not exclusive and next_exclusive is not null
  union
  select task, before from line where fresh and exclusive and before_exclusive;
end
$$;

ALTER FUNCTION queue.line_edges(p_resource integer[], p_position bigint[], p_task bigint[], p_exclusive boolean[], p_without bigint[]) OWNER TO taskomatic_owner;

-- Name: lock_for_rewriting(text[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.lock_for_rewriting(p_names text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform pg_advisory_xact_lock(7243003);
  perform from queue.resource where name = any (p_names collate "C") order by name for update;
end
$$;

ALTER FUNCTION queue.lock_for_rewriting(p_names text[]) OWNER TO taskomatic_owner;

-- Name: lock_resources(text[], boolean[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.lock_resources(p_names text[], p_exclusive boolean[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_custom_plan'
    AS $$
declare
  part record;
  missing text;
begin
  select w.name into missing from unnest(p_names) as w(name)
    where not exists (select from queue.resource r where r.name = w.name collate "C") limit 1;
  if missing is not null then
    perform queue.refuse('resource_missing', format('resource %s is not known yet', missing));
  end if;
  for part in
    with wanted as (
      select u.name collate "C" as name, bool_or(u.exclusive) as exclusive
      from unnest(p_names, p_exclusive) as u(name, exclusive) group by 1
    ), stretches as (
      select name, exclusive,
        row_number() over (order by name) - row_number() over (partition by exclusive order by name) as stretch
      from wanted
    )
    select array_agg(name order by name) as names, exclusive from stretches group by exclusive, stretch order by min(name)
  loop
    if part.exclusive then
      perform from queue.resource where name = any (part.names) order by name for update;
    else
      perform from queue.resource where name = any (part.names) order by name for key share;
    end if;
  end loop;
end
$$;

ALTER FUNCTION queue.lock_resources(p_names text[], p_exclusive boolean[]) OWNER TO taskomatic_owner;

-- Name: lock_resources_of(bigint[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.lock_resources_of(p_tasks bigint[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform from queue.resource
    where id in (select c.resource from queue.claim c where c.task = any (p_tasks)) order by name for update;
end
$$;

ALTER FUNCTION queue.lock_resources_of(p_tasks bigint[]) OWNER TO taskomatic_owner;

-- Name: lock_tasks(bigint[], bigint[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.lock_tasks(p_update bigint[], p_share bigint[]) RETURNS bigint[]
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  part record;
  still_open bigint[] := '{}';
  locked bigint[];
begin
  for part in
    with wanted as (
      select u.id, bool_or(u.ours) as ours
      from (select unnest(p_update), true union all select unnest(p_share), false) as u(id, ours)
      where u.id is not null group by u.id
    ), stretches as (
      select id, ours, row_number() over (order by id) - row_number() over (partition by ours order by id) as stretch from wanted
    )
    select array_agg(id order by id) as ids, ours from stretches group by ours, stretch order by min(id)
  loop
    if part.ours then
      select array_agg(l.id) into locked
        from (select id from queue.task where id = any (part.ids) and outcome is null order by id for update) l;
    else
      select array_agg(l.id) into locked
        from (select id from queue.task where id = any (part.ids) and outcome is null order by id for key share) l;
    end if;
    still_open := still_open || locked;
  end loop;
  return still_open;
end
$$;

ALTER FUNCTION queue.lock_tasks(p_update bigint[], p_share bigint[]) OWNER TO taskomatic_owner;

-- Name: make_ready(bigint[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.make_ready(p_tasks bigint[]) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  made integer;
  scarce bigint[];
  freed text[];
begin
  with clear as (
    delete from queue.wait
    where task = any (p_tasks) and unmet = 0 and barred = 0 and doomed_by is null and position is not null and not limited
    returning task, priority, position, attempts, started
  )
  insert into queue.ready (task, rank, position, attempts, started, since)
  select task, -priority, position, attempts, started, queue.now() from clear;
  get diagnostics made = row_count;
  if exists (select from queue.cost where task = any (p_tasks) and not granted) then
    select array_agg(w.task) into scarce from queue.wait w
      where w.task = any (p_tasks) and w.unmet = 0 and w.doomed_by is null and w.position is not null and w.limited
        and w.barred = (select count(*) from queue.parked p where p.task = w.task and p.key = 'limit');
    if scarce is not null then
      made := made + queue.queue_for_units(scarce);
    end if;
    -- Who queues, but must wait for something else after all, keeps those behind it from nothing.
    select array_agg(distinct c.key) into freed from queue.cost c where c.task = any (p_tasks) and c.queued;
    if freed is not null then
      perform from queue.limit_lock for update;
      made := made + queue.grant_units(freed);
    end if;
  end if;
  return made;
end
$$;

ALTER FUNCTION queue.make_ready(p_tasks bigint[]) OWNER TO taskomatic_owner;

-- Name: make_wait(bigint[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.make_wait(p_tasks bigint[]) RETURNS bigint[]
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  moved bigint[];
begin
  perform from queue.ready where task = any (p_tasks) order by task for update;
  with back as (
    delete from queue.ready where task = any (p_tasks) returning task, rank, position, attempts, started
  ), kept as (
    insert into queue.wait (task, unmet, attempts, started, limited, priority, position)
    select b.task, 0, b.attempts, b.started, exists (select from queue.cost c where c.task = b.task), -b.rank, b.position
    from back b returning task
  )
  select coalesce(array_agg(task), '{}') into moved from kept;
  perform queue.give_back(array(select task from queue.wait where task = any (p_tasks)));
  return moved;
end
$$;

ALTER FUNCTION queue.make_wait(p_tasks bigint[]) OWNER TO taskomatic_owner;

-- Name: needing(bigint[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.needing(p_tasks bigint[]) RETURNS bigint[]
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with recursive needing as (
    select unnest(p_tasks) as task
    union
    select p.task from needing n
    join queue.prerequisite p on p.prerequisite = n.task and not p.derived
    join queue.task t on t.id = p.task and t.outcome is null
  )
  select array_agg(task order by task) from needing
$$;

ALTER FUNCTION queue.needing(p_tasks bigint[]) OWNER TO taskomatic_owner;

-- Name: note(bigint, text, jsonb, text); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.note(p_task bigint, p_message text, p_data jsonb DEFAULT NULL::jsonb, p_level text DEFAULT 'info'::text) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  insert into queue.log (task, at, level, message, data) values (p_task, queue.now(), p_level, p_message, p_data)
$$;

ALTER FUNCTION queue.note(p_task bigint, p_message text, p_data jsonb, p_level text) OWNER TO taskomatic_owner;

-- Name: note_find(text, bigint, jsonb); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.note_find(p_kind text, p_task bigint, p_about jsonb) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  insert into queue.guard_find (at, kind, task, about) values (queue.now(), p_kind, p_task, p_about);
  insert into queue.log (task, at, level, message, data)
    values (p_task, queue.now(), 'error', 'the guard poll found it: ' || p_kind, p_about);
$$;

ALTER FUNCTION queue.note_find(p_kind text, p_task bigint, p_about jsonb) OWNER TO taskomatic_owner;

-- Name: note_unbound(bigint, bigint, integer, jsonb); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.note_unbound(p_dispatcher bigint, p_task bigint, p_attempt integer, p_about jsonb) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if not queue.lease_holds(p_dispatcher) or not exists (
    select from queue.run r where r.task = p_task and r.attempt = p_attempt and r.dispatcher = p_dispatcher) then
    return false;
  end if;
  insert into queue.bound as b (task, attempt, bound, claims, at)
  select t.id, p_attempt, p_about, t.claims, queue.now() from queue.task t where t.id = p_task
  on conflict (task) do update set attempt = excluded.attempt, bound = excluded.bound, at = excluded.at;
  return true;
end
$$;

ALTER FUNCTION queue.note_unbound(p_dispatcher bigint, p_task bigint, p_attempt integer, p_about jsonb) OWNER TO taskomatic_owner;

-- Name: now(); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.now() RETURNS timestamp with time zone
    LANGUAGE sql
    AS $$
  select clock_timestamp() + coalesce((select ahead from queue.clock), interval '0')
$$;

ALTER FUNCTION queue.now() OWNER TO taskomatic_owner;

-- Name: open_effects(text[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.open_effects(p_subjects text[]) RETURNS TABLE(task bigint, action text, title text, subject text, facts jsonb)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select e.task, t.action, t.title, e.subject, nullif(t.effects -> e.ordinal -> 'facts', 'null')
  from queue.effect e
  join queue.task t on t.id = e.task
  join queue.place p on p.task = e.task
  where e.subject = any (p_subjects) and p.position is not null
  order by coalesce(t.path, array[p.position]), e.ordinal
$$;

ALTER FUNCTION queue.open_effects(p_subjects text[]) OWNER TO taskomatic_owner;

-- Name: own_edges(integer[], bigint[], boolean[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.own_edges(p_resource integer[], p_task bigint[], p_exclusive boolean[]) RETURNS TABLE(task bigint, prerequisite bigint)
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select distinct f.task, c.task
  from unnest(p_resource, p_task, p_exclusive) as f(resource, task, exclusive)
  join queue.claim c on c.resource = f.resource and c.own and (c.exclusive or f.exclusive) and c.task <> f.task
$$;

ALTER FUNCTION queue.own_edges(p_resource integer[], p_task bigint[], p_exclusive boolean[]) OWNER TO taskomatic_owner;

-- Name: place_waiting(integer); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.place_waiting(p_limit integer DEFAULT 100) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_custom_plan'
    SET jit TO 'off'
    AS $$
declare
  newcomers bigint[];
  c_task bigint[]; c_resource integer[]; c_exclusive boolean[]; c_position bigint[];
  e_task bigint[]; e_prerequisite bigint[];
  positions bigint[];
  still_open bigint[];
  found_ready bigint[];
  dependants bigint[];
begin
  select array_agg(w.task order by w.task) into newcomers
    from (select task from queue.wait where position is null and barred = 0 and behind = 0 order by task limit p_limit) w;
  if newcomers is null then
    return 0;
  end if;
  perform queue.lock_resources(array_agg(r.name), array_agg(c.exclusive))
    from queue.claim c join queue.resource r on r.id = c.resource where c.task = any (newcomers) having count(*) > 0;
  select array_agg(nextval('queue.position')) into positions from generate_series(1, cardinality(newcomers));
  select array_agg(c.task), array_agg(c.resource), array_agg(c.exclusive), array_agg(u.position)
    into c_task, c_resource, c_exclusive, c_position
    from unnest(newcomers, positions) as u(task, position) join queue.claim c on c.task = u.task;
  if c_task is not null then
    select array_agg(e.task), array_agg(e.prerequisite) into e_task, e_prerequisite from (
      select * from queue.line_edges(c_resource, c_position, c_task, c_exclusive, null)
      union select * from queue.own_edges(c_resource, c_task, c_exclusive)) e;
  end if;
  still_open := queue.lock_tasks(newcomers, e_prerequisite);
  select array_agg(distinct task) into dependants from queue.prerequisite where prerequisite = any (newcomers);
  perform from queue.wait where task = any (newcomers || dependants) order by task for update;
  -- Between our look and our locks one may have been cancelled or held, or another dispatcher placed them: then the edges are not
  -- those of these lines, and the next call looks again.
  if (select count(*) from queue.wait
      where task = any (newcomers) and position is null and barred = 0 and behind = 0) < cardinality(newcomers) then
    return 0;
  end if;
  update queue.claim c set position = u.position from unnest(newcomers, positions) as u(task, position) where c.task = u.task;
  update queue.cost c set position = u.position from unnest(newcomers, positions) as u(task, position) where c.task = u.task;
  update queue.wait w set position = u.position from unnest(newcomers, positions) as u(task, position) where w.task = u.task;
  perform queue.add_edges(e_task, e_prerequisite, still_open);
  perform queue.recount(newcomers || dependants);
  if queue.make_ready(newcomers) > 0 then
    perform queue.wake();
  end if;
  perform queue.tell(p_changed => newcomers);
  return cardinality(newcomers);
end
$$;

ALTER FUNCTION queue.place_waiting(p_limit integer) OWNER TO taskomatic_owner;

-- Name: position_of(bigint); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.position_of(p_task bigint) RETURNS bigint[]
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select coalesce(t.path, array[p.position]) from queue.task t left join queue.place p on p.task = t.id where t.id = p_task
$$;

ALTER FUNCTION queue.position_of(p_task bigint) OWNER TO taskomatic_owner;

-- Name: promote_due(timestamp with time zone); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.promote_due(p_at timestamp with time zone) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  promoted bigint[];
begin
  if not exists (select from queue.scheduled where due <= p_at) then
    return 0;
  end if;
  select array_agg(task) into promoted from (
    select w.task from queue.wait w
    where w.task in (select s.task from queue.scheduled s where s.due <= p_at order by s.due limit 1000)
    order by w.task for update skip locked
  ) w;
  with gone as (
    delete from queue.scheduled s where s.task = any (promoted) and s.due <= p_at returning task
  )
  update queue.wait w set barred = barred - 1 from gone where w.task = gone.task;
  return queue.make_ready(promoted);
end
$$;

ALTER FUNCTION queue.promote_due(p_at timestamp with time zone) OWNER TO taskomatic_owner;

-- Name: prove_lease(bigint); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.prove_lease(p_dispatcher bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if not queue.lease_holds(p_dispatcher) then
    perform queue.refuse('lease_lost', format('the lease of dispatcher %s has run out', p_dispatcher));
  end if;
end
$$;

ALTER FUNCTION queue.prove_lease(p_dispatcher bigint) OWNER TO taskomatic_owner;

-- Name: prune(interval, interval); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.prune(p_events interval DEFAULT '01:00:00'::interval, p_idempotency interval DEFAULT '7 days'::interval) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  gone integer;
  more integer;
begin
  -- The oldest only: with nothing to forget, all of them would be looked at.
  delete from queue.event where id in (
    select e.id from (select id, at from queue.event order by id limit 10000) e where e.at < queue.now() - p_events);
  get diagnostics gone = row_count;
  delete from queue.idempotency where key in (select key from queue.idempotency where at < queue.now() - p_idempotency limit 10000);
  get diagnostics more = row_count;
  return gone + more;
end
$$;

ALTER FUNCTION queue.prune(p_events interval, p_idempotency interval) OWNER TO taskomatic_owner;

-- Name: queue_for_units(bigint[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.queue_for_units(p_tasks bigint[]) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform from queue.limit_lock for update;
  update queue.cost c set queued = true, position = w.position from queue.wait w where w.task = c.task and c.task = any (p_tasks);
  with aside as (
    insert into queue.parked (task, key, reason, since)
    select task, 'limit', 'waiting for ' || string_agg(format('%s of %s', units, key), ', ' order by key), queue.now()
    from queue.cost where task = any (p_tasks) group by task
    on conflict (task) do nothing returning task
  )
  update queue.wait w set barred = barred + 1 from aside where w.task = aside.task;
  return queue.grant_units((select array_agg(distinct key) from queue.cost where task = any (p_tasks)));
end
$$;

ALTER FUNCTION queue.queue_for_units(p_tasks bigint[]) OWNER TO taskomatic_owner;

-- Name: reached_from(bigint[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.reached_from(p_tasks bigint[]) RETURNS bigint[]
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with recursive reached as (
    select unnest(p_tasks) as task
    union
    select n.task from reached r cross join lateral (
      select p.prerequisite as task from queue.prerequisite p join queue.task b on b.id = p.prerequisite and b.outcome is null
        where p.task = r.task
      union all
      select c.id from queue.task c where c.parent = r.task and c.outcome is null
    ) n
  )
  select coalesce(array_agg(task), '{}') from reached
$$;

ALTER FUNCTION queue.reached_from(p_tasks bigint[]) OWNER TO taskomatic_owner;

-- Name: recount(bigint[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.recount(p_tasks bigint[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform from queue.wait where task = any (p_tasks) order by task for update;
  update queue.wait w set unmet = c.unmet, behind = c.behind,
    doomed_by = case when w.doomed_by = w.task then w.doomed_by else c.doomed_by end
  from (
    select w2.task,
      count(p.prerequisite) filter (where b.outcome is null or (p.needs = 'complete' and b.outcome <> 'complete')) as unmet,
      min(b.id) filter (where p.needs = 'complete' and b.outcome <> 'complete') as doomed_by,
      count(x.task) as behind
    from (select distinct u.task from unnest(p_tasks) as u(task)) w2
    left join queue.prerequisite p on p.task = w2.task
    left join queue.task b on b.id = p.prerequisite
    left join queue.wait x on x.task = p.prerequisite and x.position is null
    group by w2.task
  ) c
  where w.task = c.task;
end
$$;

ALTER FUNCTION queue.recount(p_tasks bigint[]) OWNER TO taskomatic_owner;

-- Name: refuse(text, text, bigint[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.refuse(p_code text, p_message text, p_tasks bigint[] DEFAULT '{}'::bigint[]) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  raise exception using errcode = 'TQ000', message = p_message, hint = p_code, detail = array_to_string(p_tasks, ',');
end
$$;

ALTER FUNCTION queue.refuse(p_code text, p_message text, p_tasks bigint[]) OWNER TO taskomatic_owner;

-- Name: register_dispatcher(text, integer); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.register_dispatcher(p_name text, p_lease_ms integer) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  insert into queue.dispatcher (name, lease_ms, registered_at, expires_at)
  values (p_name, p_lease_ms, queue.now(), queue.now() + make_interval(secs => p_lease_ms / 1000.0)) returning id
$$;

ALTER FUNCTION queue.register_dispatcher(p_name text, p_lease_ms integer) OWNER TO taskomatic_owner;

-- Name: release(bigint, text); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.release(p_task bigint, p_by text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform from queue.task where id = p_task and outcome is null for update;
  perform from queue.wait where task = p_task for update;
  delete from queue.held where task = p_task;
  if not found then
    perform queue.refuse('not_held', format('task %s is not held', p_task), array[p_task]);
  end if;
  update queue.wait set barred = barred - 1 where task = p_task;
  perform queue.make_ready(array[p_task]);
  perform queue.wake();
  perform queue.note(p_task, format('released by %s', p_by));
  perform queue.tell(p_changed => array[p_task]);
end
$$;

ALTER FUNCTION queue.release(p_task bigint, p_by text) OWNER TO taskomatic_owner;

-- Name: resume_parents(bigint[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.resume_parents(p_parents bigint[]) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  made integer;
begin
  with back as (
    delete from queue.run where task = any (p_parents) and phase = 'awaiting' and dispatcher is null
    returning task, attempt, priority, position
  ), waiting as (
    insert into queue.wait (task, unmet, attempts, started, limited, priority, position)
    select b.task, 0, b.attempt, true, exists (select from queue.cost c where c.task = b.task), b.priority, b.position
    from back b returning task
  )
  select array_agg(task) into p_parents from waiting;
  made := queue.make_ready(p_parents);
  return made;
end
$$;

ALTER FUNCTION queue.resume_parents(p_parents bigint[]) OWNER TO taskomatic_owner;

-- Name: retry(bigint, text, boolean); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.retry(p_task bigint, p_by text, p_with_dependants boolean) RETURNS bigint[]
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_custom_plan'
    AS $$
declare
  back bigint[];
  bad record;
  locked bigint[];
begin
  with recursive chain as (
    select p_task as task
    union
    select p.task from chain c
    join queue.prerequisite p on p.prerequisite = c.task and p.needs = 'complete'
    join queue.task t on t.id = p.task and t.outcome = 'failed' and t.error ->> 'code' = 'prerequisite_failed'
    where p_with_dependants
  )
  select array_agg(task order by task) into back from chain;
  -- Ended rows: nobody else changes them but another retry.
  select array_agg(l.id) into locked from (
    select id from queue.task where id = any (back) and outcome in ('failed', 'cancelled') order by id for update) l;
  if locked is distinct from back then
    perform queue.refuse(
      case when exists (select from queue.task where id = p_task) then 'not_ended' else 'task_not_found' end,
      format('task %s has not failed and was not cancelled', p_task), array[p_task]);
  end if;
  -- A child stands where its parent stands, and that has made up its mind, or will when the others have ended.
  select t.parent as id into bad from queue.task t where t.id = any (back) and t.parent is not null limit 1;
  if found then
    perform queue.refuse('parent_decides', format('it is a part of task %s: retry that', bad.id), array[bad.id]);
  end if;
  select b.id, b.outcome into bad from queue.prerequisite p join queue.task b on b.id = p.prerequisite
    where p.task = any (back) and not p.derived and p.needs = 'complete' and b.outcome <> 'complete' and b.id <> all (back) limit 1;
  if found then
    perform queue.refuse('prerequisite_ended_badly', format('task %s is needed, but it is %s', bad.id, bad.outcome), array[bad.id]);
  end if;

  if exists (
    select from queue.prerequisite p join queue.wait w on w.task = p.task
    where p.prerequisite = any (back) and p.needs = 'complete') then
    raise exception using errcode = '40001', message = 'what it doomed has not been ended yet';
  end if;
  -- For what is open its end has counted: it is not waited for again (its new place is behind them).
  delete from queue.prerequisite p using queue.task t
    where p.prerequisite = any (back) and t.id = p.task and t.outcome is null;

  insert into queue.attempt (task, attempt, started_at, ended_at, outcome, error)
    select id, attempts, started_at, ended_at, outcome::text, error from queue.task
    where id = any (back) and attempts > 0 and started_at is not null on conflict do nothing;
  insert into queue.wait (task, unmet, attempts, limited, priority)
    select t.id, 0, t.attempts, exists (select from queue.cost c where c.task = t.id), t.priority from queue.task t where t.id = any (back);
  update queue.task set outcome = null, error = null, result = null, started_at = null, ended_at = null where id = any (back);
  insert into queue.claim (task, resource, exclusive)
    select t.id, r.id, bool_or(c.mode = 'exclusive')
    from queue.task t cross join lateral jsonb_to_recordset(t.claims) as c(resource text, mode text)
    join queue.resource r on r.name = c.resource collate "C"
    where t.id = any (back) group by t.id, r.id;
  insert into queue.effect (task, ordinal, subject)
    select t.id, f.ordinal - 1, f.effect ->> 'subject'
    from queue.task t cross join lateral jsonb_array_elements(t.effects) with ordinality as f(effect, ordinal)
    where t.id = any (back);
  delete from queue.prerequisite where task = any (back) and derived;
  perform queue.recount(back);
  perform queue.note(b.task, format('retried by %s', p_by)) from unnest(back) as b(task);
  perform queue.tell(p_changed => back);
  perform queue.wake();
  return back;
end
$$;

ALTER FUNCTION queue.retry(p_task bigint, p_by text, p_with_dependants boolean) OWNER TO taskomatic_owner;

-- Name: rewrite(jsonb, text); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.rewrite(p_rewrites jsonb, p_by text) RETURNS TABLE(task bigint, answer text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_custom_plan'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
declare
  t constant timestamptz := queue.now();
  tasks bigint[];
  n_task bigint[]; n_name text[]; n_exclusive boolean[];   -- claims that are new or have another mode
  left_task bigint[]; left_resource integer[];             -- claims that are given up
  e_task bigint[]; e_prerequisite bigint[];                -- edges that close what they leave
  others bigint[];
  still_open bigint[];
  begun bigint[];
  moved bigint[] := '{}';
  done bigint[] := '{}';
  one record;
  mine record;
  above bigint[];
  started bigint[]; earlier bigint[]; later bigint[]; first bigint[]; reached bigint[];
  reach bigint[];
  made integer;
begin
  if jsonb_array_length(p_rewrites) > 10000 then
    perform queue.refuse('too_many_tasks', 'at most 10,000 tasks are rewritten at once');
  end if;
  select array_agg(r.task order by r.task) into tasks from jsonb_to_recordset(p_rewrites) as r(task bigint);
  if tasks is null then
    return;
  end if;
  -- Neither bound nor expanded meanwhile: what claims what, and who has started, stays as it is.
  perform pg_advisory_xact_lock(7243003);

  with wanted as (
    select r.task, c.resource as name, bool_or(c.mode = 'exclusive') as exclusive
    from jsonb_to_recordset(p_rewrites) as r(task bigint, claims jsonb)
    cross join lateral jsonb_to_recordset(r.claims) as c(resource text, mode text) group by r.task, c.resource
  ), had as (
    select c.task, r.name, c.exclusive from queue.claim c join queue.resource r on r.id = c.resource where c.task = any (tasks)
  )
  select array_agg(w.task), array_agg(w.name), array_agg(w.exclusive) into n_task, n_name, n_exclusive
  from wanted w where not exists (
    select from had h where h.task = w.task and h.name = w.name collate "C" and h.exclusive = w.exclusive);
  select array_agg(c.task), array_agg(c.resource) into left_task, left_resource
  from queue.claim c join queue.resource r on r.id = c.resource
  where c.task = any (tasks) and not exists (
    select from jsonb_to_recordset(p_rewrites) as w(task bigint, claims jsonb)
    cross join lateral jsonb_to_recordset(w.claims) as k(resource text, mode text)
    where w.task = c.task and k.resource = r.name collate "C"
    group by w.task having bool_or(k.mode = 'exclusive') = c.exclusive);
  if exists (
    select from unnest(n_name) as w(name) where not exists (select from queue.resource r where r.name = w.name collate "C")) then
    perform queue.refuse('resource_missing', 'a resource of a rewritten task is not known yet');
  end if;
  -- As if exclusive: others are put behind, whatever their mode.
  perform from queue.resource r
    where r.id = any (left_resource) or r.name = any (n_name collate "C") order by r.name for update;

  if left_task is not null then
    -- Line by line: who leaves one may stay in another.
    select array_agg(e.task), array_agg(e.prerequisite) into e_task, e_prerequisite
    from (
      select resource, array_agg(task) as leaving from unnest(left_task, left_resource) as l(task, resource) group by resource
    ) l
    cross join lateral queue.closing_edges(l.leaving, array[l.resource]) e;
  end if;
  select array_agg(distinct k.task) into others
  from unnest(n_task, n_name, n_exclusive) as c(task, name, exclusive)
  join queue.resource r on r.name = c.name collate "C"
  join queue.claim k on k.resource = r.id and k.task <> c.task and (k.exclusive or c.exclusive) and k.position is not null;
  still_open := queue.lock_tasks(tasks, others || e_prerequisite);

  perform from queue.wait w
    where w.task = any (tasks || others || e_task)
      or w.task in (select p.task from queue.prerequisite p where p.prerequisite = any (tasks)) order by w.task for update;
  moved := queue.make_wait(array(select o from unnest(tasks || others) as o where o = any (still_open)));
  select coalesce(array_agg(r.task), '{}') into begun from queue.run r where r.task = any (others);
  select begun || coalesce(array_agg(w.task), '{}') into begun
    from queue.wait w where w.task = any (others) and w.started and w.task <> all (tasks);

  for one in
    select r.*, coalesce(x.path, array[w.position]) as path, w.position, w.attempts as had, x.outcome, w.task as waits
    from jsonb_to_recordset(p_rewrites) as r(
      task bigint, attempts integer, title text, args jsonb, claims jsonb, effects jsonb, limits jsonb, message text, data jsonb)
    left join queue.task x on x.id = r.task
    left join queue.wait w on w.task = r.task
    order by coalesce(x.path, array[w.position]), r.task
  loop
    task := one.task;
    if one.task <> all (still_open) then
      answer := 'ended';
      return next;
      continue;
    end if;
    if one.waits is null or one.had <> one.attempts
      or exists (select from queue.family f where f.parent = one.task)
      or exists (select from queue.cancel_request c where c.task = one.task) then
      answer := 'begun';
      return next;
      continue;
    end if;

    above := queue.ancestors(one.task);
    started := null; earlier := null; later := null; first := null; reached := null;
    if one.position is not null then
      select array_agg(o.task) filter (where o.task = any (begun)),
        array_agg(o.task) filter (where o.task <> all (begun) and o.path < one.path),
        array_agg(o.task) filter (where o.task <> all (begun) and o.path > one.path)
      into started, earlier, later
      from (
        select distinct k.task, coalesce(x.path, array[p.position]) as path
        from unnest(n_task, n_name, n_exclusive) as c(task, name, exclusive)
        join queue.resource r on r.name = c.name collate "C"
        join queue.claim k on k.resource = r.id and (k.exclusive or c.exclusive)
        join queue.place p on p.task = k.task
        join queue.task x on x.id = k.task
        where c.task = one.task and k.task <> all (above) and k.position is not null and k.task = any (still_open)
      ) o;
      reach := case when started is null then '{}' else queue.reached_from(started) end;
      if one.task = any (reach) then
        answer := 'circle';
        return next;
        continue;
      end if;
      -- Those of the earlier ones that wait for it already come after it.
      select array_agg(e) filter (where one.task = any (queue.reached_from(array[e]))),
        array_agg(e) filter (where one.task <> all (queue.reached_from(array[e])))
      into first, earlier from unnest(earlier) as e;
      reach := queue.reached_from(array[one.task] || started || earlier);
      -- What it reaches through others it waits for itself: these may be cancelled or held.
      reached := array(select l from unnest(later) as l where l = any (reach));
      later := array(select l from unnest(later) as l where l <> all (reach));
    end if;

    delete from queue.claim c using unnest(left_task, left_resource) as l(task, resource)
      where c.task = one.task and l.task = c.task and l.resource = c.resource;
    insert into queue.claim (task, resource, position, exclusive, own)
    select one.task, r.id, one.position, c.exclusive, one.position is not null
    from unnest(n_task, n_name, n_exclusive) as c(task, name, exclusive)
    join queue.resource r on r.name = c.name collate "C" where c.task = one.task;
    delete from queue.effect e where e.task = one.task;
    insert into queue.effect (task, ordinal, subject)
    select one.task, f.ordinal - 1, f.effect ->> 'subject'
    from jsonb_array_elements(one.effects) with ordinality as f(effect, ordinal);
    perform queue.give_back(array[one.task]);
    delete from queue.cost c where c.task = one.task;
    insert into queue.cost (task, key, units, rank, position)
    select one.task, l.key, sum(l.units), -w.priority, w.position
    from jsonb_to_recordset(one.limits) as l(key text, units integer) join queue.wait w on w.task = one.task
    group by l.key, w.priority, w.position;
    update queue.task x set title = one.title, args = one.args, claims = one.claims, effects = one.effects,
      limits = case when jsonb_array_length(one.limits) > 0 then one.limits end
      where x.id = one.task;
    -- What it was bound to, and what it was parked for, was said of what it is no longer.
    delete from queue.bound b where b.task = one.task;
    with aside as (delete from queue.parked p where p.task = one.task returning p.task)
    update queue.wait w set started = false, barred = w.barred - (select count(*) from aside),
      limited = jsonb_array_length(one.limits) > 0
      where w.task = one.task;

    insert into queue.prerequisite (task, prerequisite, needs, derived)
    select one.task, p, 'ended', true from unnest(started || earlier || reached) as p on conflict do nothing;
    insert into queue.prerequisite (task, prerequisite, needs, derived)
    select l, one.task, 'ended', true from unnest(later || first) as l on conflict do nothing;
    perform queue.note(one.task, one.message, one.data);
    done := done || one.task;
    answer := 'rewritten';
    return next;
  end loop;

  perform queue.add_edges(e_task, e_prerequisite, still_open);
  perform queue.recount(tasks || others || e_task);
  -- The others as well: whoever granted units passed over those whose rows we hold.
  made := queue.make_ready(tasks || others || e_task);
  perform queue.tell(p_changed => done || moved);
  if made > 0 then
    perform queue.wake();
  end if;
end
$$;

ALTER FUNCTION queue.rewrite(p_rewrites jsonb, p_by text) OWNER TO taskomatic_owner;

-- Name: room(text); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.room(p_key text) RETURNS integer
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select coalesce(queue.cap_of(p_key), 2147483647)
    - coalesce((select sum(units) from queue.cost where key = p_key and granted), 0)::integer
$$;

ALTER FUNCTION queue.room(p_key text) OWNER TO taskomatic_owner;

-- Name: set_cap(text, integer); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.set_cap(p_key text, p_cap integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  keys text[];
begin
  perform from queue.limit_lock for update;
  if p_cap is null then
    delete from queue.cap where key = p_key;
  else
    insert into queue.cap (key, cap) values (p_key, p_cap) on conflict (key) do update set cap = excluded.cap;
  end if;
  keys := array[p_key];
  if p_key like '%/*' then
    select array_agg(distinct c.key) into keys from queue.cost c
      where c.queued and split_part(c.key, '/', 1) || '/*' = p_key;
  end if;
  if keys is not null and queue.grant_units(keys) > 0 then
    perform queue.wake();
  end if;
end
$$;

ALTER FUNCTION queue.set_cap(p_key text, p_cap integer) OWNER TO taskomatic_owner;

-- Name: set_progress(bigint, integer, jsonb); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.set_progress(p_task bigint, p_attempt integer, p_progress jsonb) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  insert into queue.progress as p (task, attempt, progress, at)
  select p_task, p_attempt, p_progress, queue.now() where queue.attempt_holds(p_task, p_attempt)
  on conflict (task) do update set attempt = excluded.attempt, progress = excluded.progress, at = excluded.at
  where p.attempt <= excluded.attempt
$$;

ALTER FUNCTION queue.set_progress(p_task bigint, p_attempt integer, p_progress jsonb) OWNER TO taskomatic_owner;

-- Name: set_undo_states(bigint, integer, bigint[], queue.undo_state[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.set_undo_states(p_by bigint, p_attempt integer, p_tasks bigint[], p_states queue.undo_state[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if not queue.attempt_holds(p_by, p_attempt) then
    perform queue.refuse('stale_attempt', format('attempt %s of task %s is over', p_attempt, p_by), array[p_by]);
  end if;
  perform from queue.task where id = any (p_tasks) order by id for update;
  update queue.task t set undo_state = u.state
    from unnest(p_tasks, p_states) as u(task, state) where t.id = u.task and t.id = any (p_tasks) and t.outcome is not null;
  perform queue.tell(p_changed => p_tasks);
end
$$;

ALTER FUNCTION queue.set_undo_states(p_by bigint, p_attempt integer, p_tasks bigint[], p_states queue.undo_state[]) OWNER TO taskomatic_owner;

-- Name: settle(bigint, jsonb, integer); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.settle(p_dispatcher bigint, p_ends jsonb, p_take integer) RETURNS TABLE(kind text, task bigint, attempt integer, action text, title text, args jsonb, plan bigint, parent bigint, priority smallint, binds boolean, bound jsonb, by text, children jsonb, number bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
declare
  t constant timestamptz := queue.now();
  holds constant boolean := queue.lease_holds(p_dispatcher);
  given bigint[];
  good bigint[]; bad bigint[];
  ended bigint[] := '{}';
  ours bigint[] := '{}'; -- recorded, whatever the outcome
  known bigint[]; -- or so before
  begun bigint[] := '{}';
  made integer := 0;
begin
  select array_agg(e.task) into given from jsonb_to_recordset(p_ends) as e(task bigint);

  if given is not null and holds then
    -- In id order, and before anything is read that a submission may be adding: see lock_tasks.
    perform from queue.task where id = any (given) and outcome is null order by id for update;

    with ends as (
      select e.task, e.attempt, e.result, e.error,
        -- What someone asked to cancel is not tried again.
        case when e.outcome in ('retry', 'park') then 'cancelled' else e.outcome end::queue.state as outcome
      from jsonb_to_recordset(p_ends) as e(task bigint, attempt integer, outcome text, result jsonb, error jsonb)
      where e.outcome in ('complete', 'failed', 'cancelled')
        or (e.outcome in ('retry', 'park') and exists (select from queue.cancel_request c where c.task = e.task))
    ), final as (
      delete from queue.run r using ends e
      where r.task = e.task and r.attempt = e.attempt and r.dispatcher is not null
        and (r.dispatcher = p_dispatcher or r.phase <> 'running')
      returning r.task, r.attempt, r.started_at, e.outcome, e.result, e.error
    ), written as (
      update queue.task x set outcome = f.outcome, attempts = f.attempt, started_at = f.started_at, ended_at = t,
        result = case when f.outcome = 'complete' then f.result end,
        error = case when f.outcome <> 'complete'
          then coalesce(f.error, jsonb_build_object('code', f.outcome, 'message', 'no error was given')) end
      from final f where x.id = f.task
      returning x.id, x.outcome
    )
    select coalesce(array_agg(id) filter (where outcome = 'complete'), '{}'),
      coalesce(array_agg(id) filter (where outcome <> 'complete'), '{}')
    into good, bad from written;
    ended := good || bad;
    ours := ended;
    if cardinality(ended) > 0 then
      made := queue.after_ends(good, bad);
    end if;
    if cardinality(ended) < cardinality(given) then
      ours := ours || queue.settle_others(p_dispatcher, p_ends, t);
    end if;
  end if;

  if given is not null and cardinality(ours) < cardinality(given) then
    known := ours || array(
      select e.task from jsonb_to_recordset(p_ends) as e(task bigint, attempt integer, outcome text)
      where e.task <> all (ours) and queue.is_recorded(e.task, e.attempt, e.outcome));
    with stale as (
      insert into queue.stale_report (at, dispatcher, task, attempt, said)
      select t, p_dispatcher, e.task, e.attempt, e.outcome
      from jsonb_to_recordset(p_ends) as e(task bigint, attempt integer, outcome text) where e.task <> all (known)
      returning *
    )
    insert into queue.log (task, attempt, at, level, message, data)
    select s.task, s.attempt, t, 'warn', 'the report of a past attempt was refused', jsonb_build_object('said', s.said, 'dispatcher', s.dispatcher)
    from stale s;
    kind := 'stale';
    for task, attempt in
      select e.task, e.attempt from jsonb_to_recordset(p_ends) as e(task bigint, attempt integer) where e.task <> all (known)
    loop
      return next;
    end loop;
  end if;
  if not holds then
    kind := 'lease_lost';
    return next;
    return;
  end if;

  made := made + queue.promote_due(t);
  if p_take > 0 then
    with picked as (
      -- By ctid, not by key: a row comparison against an array cannot use the index (300 to 1,000 tasks/s).
      delete from queue.ready
      where ctid = any (array(
        select ctid from queue.ready order by rank, position, task limit p_take for update skip locked))
      returning task, rank, position, attempts, started
    ), claimed as (
      insert into queue.run (task, attempt, dispatcher, started, started_at, priority, position)
      -- Its time is read after this statement's snapshot: later than the end of everything that it had to wait for.
      select p.task, p.attempts + 1, p_dispatcher, p.started or not x.binds, (select queue.now()), -p.rank, p.position
      from picked p join queue.task x on x.id = p.task
      returning task
    )
    select coalesce(array_agg(task), '{}') into begun from claimed;
  end if;
  if cardinality(begun) > 0 or cardinality(ours) > 0 then
    perform queue.tell(p_started => begun, p_ended => ended, p_changed => ours[cardinality(ended) + 1:]);
  end if;
  -- Only what is left for others is worth waking them.
  if made > cardinality(begun) then
    perform queue.wake();
  end if;

  kind := 'due';
  task := null; attempt := null;
  select ceil(extract(epoch from min(due) - t) * 1000) into number from queue.scheduled;
  if number is not null then
    number := greatest(number, 0);
    return next;
  end if;
  if exists (select from queue.wait where doomed_by is not null)
    or exists (select from queue.wait where position is null and barred = 0 and behind = 0) then
    kind := 'chores';
    return next;
  end if;
  if cardinality(begun) > 0 then
    return query
      select 'claimed', x.id, r.attempt, x.action, x.title, x.args, x.plan, x.parent, x.priority, x.binds,
        case when x.binds then (select b.bound from queue.bound b where b.task = x.id) end, x.created_by,
        case when r.started and r.attempt > 1 then queue.children_of(x.id) end, null::bigint
      from queue.run r join queue.task x on x.id = r.task
      where r.task = any (begun) and x.id = any (begun)
      order by r.priority desc, r.position, x.id;
  end if;
end
$$;

ALTER FUNCTION queue.settle(p_dispatcher bigint, p_ends jsonb, p_take integer) OWNER TO taskomatic_owner;

-- Name: settle_others(bigint, jsonb, timestamp with time zone); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.settle_others(p_dispatcher bigint, p_ends jsonb, p_at timestamp with time zone) RETURNS bigint[]
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  back bigint[];
  stay bigint[];
begin
  with ends as (
    select e.* from jsonb_to_recordset(p_ends) as e(
      task bigint, attempt integer, outcome text, "afterMs" float8, reason text, key text, error jsonb)
    where e.outcome in ('retry', 'park')
  ), gone as (
    delete from queue.run r using ends e
    where r.task = e.task and r.attempt = e.attempt and r.dispatcher is not null
      and (r.dispatcher = p_dispatcher or r.phase <> 'running')
    returning r.task, r.attempt, r.dispatcher, r.started, r.started_at, r.priority, r.position, e.outcome, e."afterMs", e.reason, e.key, e.error
  ), kept as (
    insert into queue.attempt (task, attempt, dispatcher, started_at, ended_at, outcome, error)
    select task, attempt, dispatcher, started_at, p_at, case outcome when 'park' then 'parked' else 'retry' end,
      coalesce(error, jsonb_build_object('code', 'parked', 'message', reason))
    from gone
  ), waiting as (
    insert into queue.wait (task, unmet, barred, attempts, started, limited, priority, position)
    select g.task, 0, 1, g.attempt, g.started, exists (select from queue.cost c where c.task = g.task), g.priority, g.position
    from gone g
  ), later as (
    insert into queue.scheduled (task, due)
    select task, p_at + make_interval(secs => greatest("afterMs", 0) / 1000.0) from gone where outcome = 'retry'
  ), aside as (
    insert into queue.parked (task, key, reason, since) select task, key, reason, p_at from gone where outcome = 'park'
  )
  select coalesce(array_agg(task), '{}') into back from gone;
  perform queue.give_back(back);

  with stays as (
    update queue.run r set
      phase = e.outcome::queue.state, awaiting = e.what, error = e.error, evidence = e.evidence,
      deadline = case when e.outcome = 'awaiting' then p_at + make_interval(secs => e."deadlineMs" / 1000.0) end
    from jsonb_to_recordset(p_ends) as e(
      task bigint, attempt integer, outcome text, what text, "deadlineMs" float8, error jsonb, evidence jsonb)
    where e.outcome in ('awaiting', 'uncertain') and r.task = e.task and r.attempt = e.attempt and r.dispatcher is not null
      and (r.dispatcher = p_dispatcher or r.phase <> 'running')
    returning r.task
  )
  select coalesce(array_agg(task), '{}') into stay from stays;
  return back || stay;
end
$$;

ALTER FUNCTION queue.settle_others(p_dispatcher bigint, p_ends jsonb, p_at timestamp with time zone) OWNER TO taskomatic_owner;

-- Name: stop_failing(); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.stop_failing() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_custom_plan'
    AS $$
declare
  parts bigint[];
  errors jsonb[];
begin
  select array_agg(c.id order by c.id), array_agg(jsonb_build_object('code', 'plan_failed',
      'message', format('not begun, since task %s of its plan has ended as %s', bad.id, bad.outcome)) order by c.id)
    into parts, errors
  from queue.family f
  join queue.task p on p.id = f.parent and p.parent is null
  join queue.plan l on l.id = p.plan and l.on_failure = 'rollback'
  cross join lateral (
    select b.id, b.outcome from queue.task b
    where b.parent = f.parent and b.outcome in ('failed', 'cancelled') and b.undo is null order by b.id limit 1) bad
  join queue.task c on c.parent = f.parent and c.outcome is null and c.undo is null
  where f.open > 0 and not exists (select from queue.run r where r.task = c.id);
  if parts is null then
    return 0;
  end if;
  return cardinality(queue.end_unstarted(parts, 'cancelled', errors));
end
$$;

ALTER FUNCTION queue.stop_failing() OWNER TO taskomatic_owner;

-- Name: submit(jsonb, jsonb, text, text, text, text); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.submit(p_tasks jsonb, p_plan jsonb, p_by text, p_reason text, p_key text, p_fingerprint text) RETURNS TABLE(plan bigint, tasks bigint[], replayed boolean)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_custom_plan'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
declare
  n constant integer := jsonb_array_length(p_tasks);
  t constant timestamptz := queue.now();
  earlier record;
  new_plan bigint;
  ids bigint[];
  -- claims of the new tasks; those of unplaced ones have no position
  c_task bigint[]; c_name text[]; c_exclusive boolean[]; c_resource integer[];
  f_task bigint[]; f_exclusive boolean[]; f_resource integer[];
  -- explicit edges
  x_task bigint[]; x_prerequisite bigint[]; x_needs queue.needs[];
  -- derived edges
  d_task bigint[]; d_prerequisite bigint[];
  unplaced bigint[] := '{}';
  still_open bigint[];
  bad record;
  made integer;
begin
  if n <= 10 then
    perform set_config('plan_cache_mode', 'force_generic_plan', true); -- until the function returns
  end if;
  if n < 1 or n > 100000 then
    perform queue.refuse('too_many_tasks', format('a submission has 1 to 100,000 tasks, not %s', n));
  end if;

  if p_key is not null then
    -- A second one with this key waits here for the first.
    insert into queue.idempotency (key, fingerprint, tasks, at) values (p_key, p_fingerprint, '{}', t) on conflict (key) do nothing;
    if not found then
      select * into earlier from queue.idempotency where key = p_key;
      if earlier.fingerprint <> p_fingerprint then
        perform queue.refuse('idempotency_mismatch', format('key %s was used for another submission', p_key), earlier.tasks);
      end if;
      return query select earlier.plan, earlier.tasks, true;
      return;
    end if;
  end if;

  -- Claims: of two of one task on one resource the stronger. Locked by name before any id is drawn.
  select array_agg(c.index), array_agg(c.resource), array_agg(c.exclusive) into c_task, c_name, c_exclusive
  from (
    select e.index, c.resource, bool_or(c.mode = 'exclusive') as exclusive
    from jsonb_array_elements(p_tasks) with ordinality as e(task, index)
    cross join lateral jsonb_to_recordset(e.task -> 'claims') as c(resource text, mode text)
    group by e.index, c.resource
  ) c;
  if c_name is not null then
    perform queue.lock_resources(c_name, c_exclusive);
  end if;
  if p_plan is not null then
    new_plan := nextval('queue.position');
    insert into queue.plan (id, name, on_failure, created_by, reason, created_at, tasks)
    values (new_plan, p_plan ->> 'name', (p_plan ->> 'onFailure')::queue.on_failure, p_by, p_reason, t, n);
  end if;
  select array_agg(nextval('queue.position')) into ids from generate_series(1, n);

  if c_name is not null then
    select array_agg(ids[c.index]), array_agg(r.id), array_agg(c.exclusive) into c_task, c_resource, c_exclusive
    from unnest(c_task, c_name, c_exclusive) as c(index, name, exclusive)
    join queue.resource r on r.name = c.name collate "C";
  end if;

  -- Explicit edges, to earlier elements or to stored tasks.
  select array_agg(ids[a.index]), array_agg(a.prerequisite), array_agg(a.needs) into x_task, x_prerequisite, x_needs
  from (
    select e.index, coalesce(a.task, ids[a.element + 1]) as prerequisite, a.needs,
      a.task, a.task is null and (a.element is null or a.element < 0 or a.element >= e.index - 1) as later
    from jsonb_array_elements(p_tasks) with ordinality as e(task, index)
    cross join lateral jsonb_to_recordset(e.task -> 'after') as a(task bigint, element integer, needs queue.needs)
    where e.task ? 'after'
  ) a
  -- A bad reference is refused here, since the aggregate above must not see it.
  where case
    when a.later then queue.refuse('later_position', format('element %s may only come after earlier elements of its plan', a.index - 1))
    when a.task >= ids[1] then queue.refuse('task_not_found', format('task %s not found', a.task), array[a.task])
    else true end;

  -- Who is not due or held, and who needs one that has no position, gets none itself until then.
  if exists (select from jsonb_array_elements(p_tasks) as e(task) where e.task ? 'hold' or e.task ? 'notBefore')
    or exists (select from queue.wait w where w.task = any (x_prerequisite) and w.position is null) then
    with recursive late as (
      select ids[e.index] as task from jsonb_array_elements(p_tasks) with ordinality as e(task, index)
      where e.task ? 'hold' or (e.task ->> 'notBefore')::timestamptz > t
      union
      select x.task from unnest(x_task, x_prerequisite) as x(task, prerequisite)
      join queue.wait w on w.task = x.prerequisite and w.position is null
      union
      select x.task from late join unnest(x_task, x_prerequisite) as x(task, prerequisite) on x.prerequisite = late.task
    )
    select coalesce(array_agg(task), '{}') into unplaced from late;
  end if;

  select array_agg(c.task), array_agg(c.resource), array_agg(c.exclusive) into f_task, f_resource, f_exclusive
  from unnest(c_task, c_resource, c_exclusive) as c(task, resource, exclusive)
  where c.task <> all (unplaced);
  if f_task is not null then
    select array_agg(e.task), array_agg(e.prerequisite) into d_task, d_prerequisite
    from (
      select * from queue.line_edges(f_resource, f_task, f_task, f_exclusive, null)
      union
      select * from queue.own_edges(f_resource, f_task, f_exclusive)
    ) e;
  end if;

  -- Predecessors that were there before: locked, and read again now that those that were just ending have ended.
  if x_task is not null or d_task is not null then
    still_open := queue.lock_tasks('{}', (
      select array_agg(distinct p) from unnest(x_prerequisite || d_prerequisite) as u(p) where p < ids[1]));
  end if;
  if x_task is not null then
    select x.prerequisite, b.id, b.outcome into bad
    from unnest(x_task, x_prerequisite, x_needs) as x(task, prerequisite, needs)
    left join queue.task b on b.id = x.prerequisite
    where x.prerequisite < ids[1] and (b.id is null or (x.needs = 'complete' and b.outcome <> 'complete'))
    limit 1;
    if found and bad.id is null then
      perform queue.refuse('task_not_found', format('task %s not found', bad.prerequisite), array[bad.prerequisite]);
    elsif found then
      perform queue.refuse('prerequisite_ended_badly',
        format('task %s is needed, but it is %s', bad.prerequisite, bad.outcome), array[bad.prerequisite]);
    end if;
    if exists (
      select from unnest(x_task, x_prerequisite) as x(task, prerequisite)
      join queue.wait w on w.task = x.prerequisite and w.position is null
      where x.task <> all (unplaced)) then
      -- Held between our look and our lock.
      raise exception using errcode = '40001', message = 'a prerequisite was held in the same moment';
    end if;
  end if;

  insert into queue.task (
    id, action, title, args, claims, effects, limits, undo, plan, priority, not_before, binds, created_by, reason, created_at)
  select ids[e.index], e.task ->> 'action', e.task ->> 'title', e.task -> 'args', e.task -> 'claims', e.task -> 'effects',
    e.task -> 'limits', e.task -> 'undo', new_plan, coalesce((e.task ->> 'priority')::smallint, 0),
    (e.task ->> 'notBefore')::timestamptz, (e.task ->> 'binds')::boolean, p_by, p_reason, t
  from jsonb_array_elements(p_tasks) with ordinality as e(task, index);

  insert into queue.claim (task, resource, position, exclusive)
  select c.task, c.resource, case when c.task <> all (unplaced) then c.task end, c.exclusive
  from unnest(c_task, c_resource, c_exclusive) as c(task, resource, exclusive);

  insert into queue.effect (task, ordinal, subject)
  select ids[e.index], f.ordinal - 1, f.effect ->> 'subject'
  from jsonb_array_elements(p_tasks) with ordinality as e(task, index)
  cross join lateral jsonb_array_elements(e.task -> 'effects') with ordinality as f(effect, ordinal);

  insert into queue.cost (task, key, units, rank)
  select ids[e.index], l.key, sum(l.units), -coalesce((e.task ->> 'priority')::smallint, 0)
  from jsonb_array_elements(p_tasks) with ordinality as e(task, index)
  cross join lateral jsonb_to_recordset(e.task -> 'limits') as l(key text, units integer)
  where e.task ? 'limits'
  group by e.index, l.key, e.task;

  insert into queue.held (task, reason, held_by, since)
  select ids[e.index], e.task #>> '{hold,reason}', p_by, t
  from jsonb_array_elements(p_tasks) with ordinality as e(task, index) where e.task ? 'hold';

  insert into queue.scheduled (task, due)
  select ids[e.index], (e.task ->> 'notBefore')::timestamptz
  from jsonb_array_elements(p_tasks) with ordinality as e(task, index) where (e.task ->> 'notBefore')::timestamptz > t;

  -- An edge that was asked for stands for a derived one as well. Edges to what has ended are kept out: they hold nothing up.
  insert into queue.prerequisite (task, prerequisite, needs, derived)
  select x.task, x.prerequisite, min(x.needs), bool_and(x.derived)
  from (
    select task, prerequisite, needs, false from unnest(x_task, x_prerequisite, x_needs) as x(task, prerequisite, needs)
    union all
    select task, prerequisite, 'ended', true from unnest(d_task, d_prerequisite) as d(task, prerequisite)
  ) as x(task, prerequisite, needs, derived)
  where x.prerequisite >= ids[1] or x.prerequisite = any (still_open) or not x.derived
  group by x.task, x.prerequisite;

  -- Into ready or wait.
  with counted as (
    select i.id, i.index,
      coalesce(e.unmet, 0) as unmet, coalesce(e.behind, 0) as behind
    from unnest(ids) with ordinality as i(id, index)
    left join (
      select p.task, count(*) filter (where p.prerequisite >= ids[1] or p.prerequisite = any (still_open)) as unmet,
        count(*) filter (where cardinality(unplaced) > 0 and (p.prerequisite = any (unplaced)
          or exists (select from queue.wait w where w.task = p.prerequisite and w.position is null))) as behind
      from queue.prerequisite p where p.task = any (ids) group by p.task
    ) e on e.task = i.id
  ), new as (
    select c.*, t.priority,
      (case when h.task is null then 0 else 1 end + case when s.task is null then 0 else 1 end) as barred,
      t.limits is not null and jsonb_array_length(t.limits) > 0 as limited
    from counted c join queue.task t on t.id = c.id
    left join queue.held h on h.task = c.id left join queue.scheduled s on s.task = c.id
    where t.id = any (ids)
  ), ready as (
    insert into queue.ready (task, rank, position, attempts, started, since)
    select id, -priority, id, 0, false, t from new
    where unmet = 0 and barred = 0 and not limited and id <> all (unplaced)
    returning 1
  ), waiting as (
    insert into queue.wait (task, unmet, barred, behind, limited, priority, position)
    select id, unmet, barred, behind, limited, priority, case when id <> all (unplaced) then id end from new
    where not (unmet = 0 and barred = 0 and not limited and id <> all (unplaced))
    returning task, unmet = 0 and barred = 0 and limited and position is not null as queues
  )
  select (select count(*) from ready), array_agg(task) filter (where queues) into made, d_task from waiting;
  if d_task is not null then
    made := made + queue.queue_for_units(d_task);
  end if;

  if p_key is not null then
    update queue.idempotency set plan = new_plan, tasks = ids where key = p_key;
  end if;
  perform queue.tell(p_submitted => ids);
  if made > 0 then
    perform queue.wake();
  end if;
  return query select new_plan, ids, false;
end
$$;

ALTER FUNCTION queue.submit(p_tasks jsonb, p_plan jsonb, p_by text, p_reason text, p_key text, p_fingerprint text) OWNER TO taskomatic_owner;

-- Name: take_over(bigint, integer, bigint[], integer[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.take_over(p_dispatcher bigint, p_limit integer, p_tasks bigint[] DEFAULT NULL::bigint[], p_attempts integer[] DEFAULT NULL::integer[]) RETURNS TABLE(task bigint, attempt integer, action text, title text, args jsonb, plan bigint, parent bigint, priority smallint, binds boolean, bound jsonb, by text, children jsonb)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
#variable_conflict use_column
declare
  t constant timestamptz := queue.now();
  taken bigint[];
begin
  if not queue.lease_holds(p_dispatcher) then
    perform queue.refuse('lease_lost', format('the lease of dispatcher %s has run out', p_dispatcher));
  end if;
  delete from queue.dispatcher d where d.id in (
    select id from queue.dispatcher where expires_at < t and id <> p_dispatcher order by id for update skip locked);
  taken := array(
    select r.task from queue.run r where queue.is_orphan(r, t, p_dispatcher, p_tasks, p_attempts) order by r.task limit p_limit);
  if cardinality(taken) = 0 then
    return;
  end if;
  perform from queue.task where id = any (taken) and outcome is null order by id for update;
  with orphan as (
    select r.task from queue.run r
    where r.task = any (taken) and queue.is_orphan(r, t, p_dispatcher, p_tasks, p_attempts)
  ), before as (
    insert into queue.attempt (task, attempt, dispatcher, started_at, ended_at, outcome, error)
    select r.task, r.attempt, r.dispatcher, r.started_at, t, 'lost',
      jsonb_build_object('code', 'taken_over', 'message', case when r.dispatcher = p_dispatcher and r.phase = 'running'
        then 'its dispatcher had not heard that it was to run it' else 'its dispatcher is gone, or its deadline has passed' end)
    from queue.run r join orphan o on o.task = r.task
  ), over as (
    update queue.run r set attempt = r.attempt + 1, dispatcher = p_dispatcher, phase = 'running', started_at = t,
      deadline = null, awaiting = null
    from orphan o where r.task = o.task returning r.task
  )
  select array_agg(task) into taken from over;
  if taken is null then
    return;
  end if;
  perform queue.tell(p_changed => taken);
  return query
    select x.id, r.attempt, x.action, x.title, x.args, x.plan, x.parent, x.priority, x.binds,
      (select b.bound from queue.bound b where b.task = x.id), x.created_by,
      case when exists (select from queue.family f where f.parent = x.id) then queue.children_of(x.id) end
    from queue.run r join queue.task x on x.id = r.task where r.task = any (taken) order by r.position, x.id;
end
$$;

ALTER FUNCTION queue.take_over(p_dispatcher bigint, p_limit integer, p_tasks bigint[], p_attempts integer[]) OWNER TO taskomatic_owner;

-- Name: take_resources(text[], boolean[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.take_resources(p_names text[], p_exclusive boolean[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  wanted record;
begin
  if not exists (
    select from unnest(p_names) as w(name)
    where not exists (select from queue.resource r where r.name = w.name collate "C")) then
    perform queue.lock_resources(p_names, p_exclusive);
    return;
  end if;
  for wanted in
    select u.name collate "C" as name, bool_or(u.exclusive) as exclusive
    from unnest(p_names, p_exclusive) as u(name, exclusive) group by 1 order by 1
  loop
    insert into queue.resource (name) values (wanted.name) on conflict (name) do nothing;
    perform queue.lock_resources(array[wanted.name], array[wanted.exclusive]);
  end loop;
end
$$;

ALTER FUNCTION queue.take_resources(p_names text[], p_exclusive boolean[]) OWNER TO taskomatic_owner;

-- Name: tell(bigint[], bigint[], bigint[], bigint[]); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.tell(p_submitted bigint[] DEFAULT '{}'::bigint[], p_started bigint[] DEFAULT '{}'::bigint[], p_ended bigint[] DEFAULT '{}'::bigint[], p_changed bigint[] DEFAULT '{}'::bigint[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  insert into queue.event (id, at, submitted, started, ended, changed)
  values (pg_current_xact_id()::text::bigint, queue.now(), p_submitted, p_started, p_ended, p_changed)
  on conflict (id) do update set
    submitted = event.submitted || excluded.submitted, started = event.started || excluded.started,
    ended = event.ended || excluded.ended, changed = event.changed || excluded.changed;
  if coalesce(current_setting('taskomatic.notify', true), '') <> 'off' then
    perform pg_notify('queue_event', '');
  end if;
end
$$;

ALTER FUNCTION queue.tell(p_submitted bigint[], p_started bigint[], p_ended bigint[], p_changed bigint[]) OWNER TO taskomatic_owner;

-- Name: unpark(text); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.unpark(p_key text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  woken bigint[];
begin
  select array_agg(w.task) into woken from (
    select task from queue.wait
    where task in (select task from queue.parked where key = p_key) order by task for update) w;
  -- Of those whose rows are ours: the others' would be locked out of order.
  with gone as (delete from queue.parked where key = p_key and task = any (woken) returning task),
    counted as (update queue.wait w set barred = barred - 1 from gone where w.task = gone.task returning w.task)
  select array_agg(task) into woken from counted;
  if woken is null then
    return 0;
  end if;
  if queue.make_ready(woken) > 0 then
    perform queue.wake();
  end if;
  perform queue.tell(p_changed => woken);
  return cardinality(woken);
end
$$;

ALTER FUNCTION queue.unpark(p_key text) OWNER TO taskomatic_owner;

-- Name: unregister_dispatcher(bigint); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.unregister_dispatcher(p_dispatcher bigint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  delete from queue.dispatcher where id = p_dispatcher;
  if not found then
    return false;
  end if;
  -- Others need not wait for a lease to run out.
  if exists (select from queue.run where dispatcher = p_dispatcher and phase = 'running') then
    perform pg_notify('queue_left', '');
  end if;
  return true;
end
$$;

ALTER FUNCTION queue.unregister_dispatcher(p_dispatcher bigint) OWNER TO taskomatic_owner;

-- Name: wake(); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.wake() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if coalesce(current_setting('taskomatic.notify', true), '') <> 'off' then
    perform pg_notify('queue_ready', '');
  end if;
end
$$;

ALTER FUNCTION queue.wake() OWNER TO taskomatic_owner;

-- Name: way(bigint[], bigint); Type: FUNCTION; Schema: queue

CREATE FUNCTION queue.way(p_from bigint[], p_to bigint) RETURNS bigint[]
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  seen bigint[] := p_from;
  came bigint[] := array_fill(null::bigint, array[cardinality(p_from)]); -- beside `seen`: from where
  frontier bigint[] := p_from;
  found bigint[]; origins bigint[];
  path bigint[];
  at bigint := p_to;
begin
  while p_to <> all (seen) and cardinality(frontier) > 0 and cardinality(seen) < 100000 loop
    select coalesce(array_agg(n.task), '{}'), coalesce(array_agg(n.origin), '{}') into found, origins
    from (
      select e.task, min(e.origin) as origin
      from (
        select p.prerequisite as task, f.task as origin from unnest(frontier) as f(task)
          join queue.prerequisite p on p.task = f.task join queue.task b on b.id = p.prerequisite and b.outcome is null
        union all
        select c.id, f.task from unnest(frontier) as f(task) join queue.task c on c.parent = f.task and c.outcome is null
      ) e
      where e.task <> all (seen) group by e.task
    ) n;
    frontier := found;
    seen := seen || found;
    came := came || origins;
  end loop;
  while at is not null loop
    path := at || path;
    at := came[array_position(seen, at)];
  end loop;
  return path;
end
$$;

ALTER FUNCTION queue.way(p_from bigint[], p_to bigint) OWNER TO taskomatic_owner;

-- Name: autostart; Type: TABLE; Schema: inventory

CREATE TABLE inventory.autostart (
    vm uuid NOT NULL,
    start_order integer NOT NULL,
    delay_seconds integer NOT NULL,
    set_by text NOT NULL,
    set_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT delay_is_at_most_an_hour CHECK (((delay_seconds >= 0) AND (delay_seconds <= 3600))),
    CONSTRAINT start_order_is_small CHECK (((start_order >= 0) AND (start_order <= 1000)))
);

ALTER TABLE inventory.autostart OWNER TO taskomatic_owner;

-- Name: cleared; Type: TABLE; Schema: inventory

CREATE TABLE inventory.cleared (
    host text NOT NULL,
    vm uuid NOT NULL,
    task bigint NOT NULL,
    how text NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT cleared_how_is_known CHECK ((how = ANY (ARRAY['moved'::text, 'moved off'::text, 'stopped'::text])))
);

ALTER TABLE inventory.cleared OWNER TO taskomatic_owner;

-- Name: definition; Type: TABLE; Schema: inventory

CREATE TABLE inventory.definition (
    vm uuid NOT NULL,
    name text NOT NULL,
    host text NOT NULL,
    sealed bytea,
    kept_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    before_edit bytea,
    edited_digest text,
    pending_edit bytea
);

ALTER TABLE inventory.definition OWNER TO taskomatic_owner;

-- Name: disk; Type: TABLE; Schema: inventory

CREATE TABLE inventory.disk (
    vm uuid NOT NULL,
    host text NOT NULL,
    target text NOT NULL,
    kind text NOT NULL,
    source text NOT NULL
);

ALTER TABLE inventory.disk OWNER TO taskomatic_owner;

-- Name: host_label; Type: TABLE; Schema: inventory

CREATE TABLE inventory.host_label (
    host text NOT NULL,
    key text NOT NULL,
    value text NOT NULL
);

ALTER TABLE inventory.host_label OWNER TO taskomatic_owner;

-- Name: host_load; Type: TABLE; Schema: inventory

CREATE TABLE inventory.host_load (
    host text NOT NULL,
    active_vms integer NOT NULL,
    active_mib bigint NOT NULL,
    resting_mib bigint NOT NULL
)
WITH (fillfactor='50');

ALTER TABLE inventory.host_load OWNER TO taskomatic_owner;

-- Name: image; Type: TABLE; Schema: inventory

CREATE TABLE inventory.image (
    name text NOT NULL,
    store text NOT NULL,
    volume text NOT NULL,
    description text,
    memory_mib bigint,
    vcpus integer,
    firmware text,
    bus text,
    cloud_init boolean NOT NULL,
    added_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    added_by text NOT NULL,
    CONSTRAINT firmware_is_known CHECK ((firmware = ANY (ARRAY['bios'::text, 'uefi'::text]))),
    CONSTRAINT sizes_are_positive CHECK (((memory_mib > 0) AND (vcpus > 0)))
);

ALTER TABLE inventory.image OWNER TO taskomatic_owner;

-- Name: installation; Type: TABLE; Schema: inventory

CREATE TABLE inventory.installation (
    instance uuid DEFAULT gen_random_uuid() NOT NULL,
    one_row boolean DEFAULT true NOT NULL,
    CONSTRAINT one_row_only CHECK (one_row)
);

ALTER TABLE inventory.installation OWNER TO taskomatic_owner;

-- Name: kept_snapshot; Type: TABLE; Schema: inventory

CREATE TABLE inventory.kept_snapshot (
    vm uuid NOT NULL,
    name text NOT NULL,
    host text NOT NULL,
    is_current boolean NOT NULL,
    sealed bytea NOT NULL,
    kept_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE inventory.kept_snapshot OWNER TO taskomatic_owner;

-- Name: mac; Type: SEQUENCE; Schema: inventory

CREATE SEQUENCE inventory.mac
    START WITH 0
    INCREMENT BY 1
    MINVALUE 0
    MAXVALUE 16777215
    CACHE 1
    CYCLE;

ALTER TABLE inventory.mac OWNER TO taskomatic_owner;

-- Name: network; Type: TABLE; Schema: inventory

CREATE TABLE inventory.network (
    host text NOT NULL,
    name text NOT NULL,
    uuid uuid,
    active boolean NOT NULL,
    persistent boolean NOT NULL,
    autostart boolean NOT NULL,
    bridge text,
    observed_at timestamp with time zone NOT NULL,
    generation bigint NOT NULL
);

ALTER TABLE inventory.network OWNER TO taskomatic_owner;

-- Name: nic; Type: TABLE; Schema: inventory

CREATE TABLE inventory.nic (
    vm uuid NOT NULL,
    host text NOT NULL,
    mac text NOT NULL
);

ALTER TABLE inventory.nic OWNER TO taskomatic_owner;

-- Name: sighting; Type: SEQUENCE; Schema: inventory

CREATE SEQUENCE inventory.sighting
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER TABLE inventory.sighting OWNER TO taskomatic_owner;

-- Name: saved_image; Type: TABLE; Schema: inventory

CREATE TABLE inventory.saved_image (
    vm uuid NOT NULL,
    host text NOT NULL,
    task bigint NOT NULL,
    saved_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    generation bigint DEFAULT nextval('inventory.sighting'::regclass) NOT NULL
);

ALTER TABLE inventory.saved_image OWNER TO taskomatic_owner;

-- Name: watch; Type: TABLE; Schema: inventory

CREATE TABLE inventory.watch (
    host text NOT NULL,
    dispatcher bigint,
    since timestamp with time zone NOT NULL
);

ALTER TABLE inventory.watch OWNER TO taskomatic_owner;

-- Name: watcher; Type: TABLE; Schema: inventory

CREATE TABLE inventory.watcher (
    dispatcher bigint NOT NULL
);

ALTER TABLE inventory.watcher OWNER TO taskomatic_owner;

-- Name: applied; Type: TABLE; Schema: migration

CREATE TABLE migration.applied (
    number integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE migration.applied OWNER TO taskomatic_owner;

-- Name: attempt; Type: TABLE; Schema: queue

CREATE TABLE queue.attempt (
    task bigint NOT NULL,
    attempt integer NOT NULL,
    dispatcher bigint,
    started_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone NOT NULL,
    outcome text NOT NULL,
    error jsonb,
    CONSTRAINT attempt_outcome_is_known CHECK ((outcome = ANY (ARRAY['retry'::text, 'parked'::text, 'waiting'::text, 'expanded'::text, 'lost'::text, 'failed'::text, 'cancelled'::text])))
);

ALTER TABLE queue.attempt OWNER TO taskomatic_owner;

-- Name: audit; Type: TABLE; Schema: queue

CREATE TABLE queue.audit (
    one boolean DEFAULT true NOT NULL,
    next_task bigint DEFAULT 0 NOT NULL,
    CONSTRAINT audit_one_check CHECK (one)
);

ALTER TABLE queue.audit OWNER TO taskomatic_owner;

-- Name: bound; Type: TABLE; Schema: queue

CREATE TABLE queue.bound (
    task bigint NOT NULL,
    attempt integer NOT NULL,
    bound jsonb,
    claims jsonb NOT NULL,
    at timestamp with time zone NOT NULL
);

ALTER TABLE queue.bound OWNER TO taskomatic_owner;

-- Name: cancel_request; Type: TABLE; Schema: queue

CREATE TABLE queue.cancel_request (
    task bigint NOT NULL,
    asked_by text NOT NULL,
    reason text,
    at timestamp with time zone NOT NULL
);

ALTER TABLE queue.cancel_request OWNER TO taskomatic_owner;

-- Name: cap; Type: TABLE; Schema: queue

CREATE TABLE queue.cap (
    key text NOT NULL,
    cap integer NOT NULL,
    CONSTRAINT cap_cap_check CHECK ((cap >= 0))
);

ALTER TABLE queue.cap OWNER TO taskomatic_owner;

-- Name: claim; Type: TABLE; Schema: queue

CREATE TABLE queue.claim (
    task bigint NOT NULL,
    resource integer NOT NULL,
    "position" bigint,
    exclusive boolean NOT NULL,
    own boolean DEFAULT false NOT NULL
);

ALTER TABLE queue.claim OWNER TO taskomatic_owner;

-- Name: clock; Type: TABLE; Schema: queue

CREATE TABLE queue.clock (
    ahead interval NOT NULL
);

ALTER TABLE queue.clock OWNER TO taskomatic_owner;

-- Name: cost; Type: TABLE; Schema: queue

CREATE TABLE queue.cost (
    task bigint NOT NULL,
    key text NOT NULL,
    units integer NOT NULL,
    granted boolean DEFAULT false NOT NULL,
    queued boolean DEFAULT false NOT NULL,
    rank smallint NOT NULL,
    "position" bigint,
    CONSTRAINT cost_units_check CHECK ((units > 0))
);

ALTER TABLE queue.cost OWNER TO taskomatic_owner;

-- Name: dispatcher; Type: TABLE; Schema: queue

CREATE TABLE queue.dispatcher (
    id bigint NOT NULL,
    name text NOT NULL,
    lease_ms integer NOT NULL,
    registered_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT dispatcher_lease_ms_check CHECK ((lease_ms > 0))
)
WITH (fillfactor='50');

ALTER TABLE queue.dispatcher OWNER TO taskomatic_owner;

-- Name: dispatcher_id_seq; Type: SEQUENCE; Schema: queue

ALTER TABLE queue.dispatcher ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME queue.dispatcher_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- Name: effect; Type: TABLE; Schema: queue

CREATE TABLE queue.effect (
    task bigint NOT NULL,
    ordinal integer NOT NULL,
    subject text NOT NULL
);

ALTER TABLE queue.effect OWNER TO taskomatic_owner;

-- Name: event; Type: TABLE; Schema: queue

CREATE TABLE queue.event (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    submitted bigint[] NOT NULL,
    started bigint[] NOT NULL,
    ended bigint[] NOT NULL,
    changed bigint[] NOT NULL
);

ALTER TABLE queue.event OWNER TO taskomatic_owner;

-- Name: family; Type: TABLE; Schema: queue

CREATE TABLE queue.family (
    parent bigint NOT NULL,
    open integer NOT NULL,
    CONSTRAINT family_open_check CHECK ((open >= 0))
);

ALTER TABLE queue.family OWNER TO taskomatic_owner;

-- Name: guard_find; Type: TABLE; Schema: queue

CREATE TABLE queue.guard_find (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    kind text NOT NULL,
    task bigint NOT NULL,
    about jsonb NOT NULL
);

ALTER TABLE queue.guard_find OWNER TO taskomatic_owner;

-- Name: guard_find_id_seq; Type: SEQUENCE; Schema: queue

ALTER TABLE queue.guard_find ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME queue.guard_find_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- Name: held; Type: TABLE; Schema: queue

CREATE TABLE queue.held (
    task bigint NOT NULL,
    reason text NOT NULL,
    held_by text NOT NULL,
    since timestamp with time zone NOT NULL
);

ALTER TABLE queue.held OWNER TO taskomatic_owner;

-- Name: idempotency; Type: TABLE; Schema: queue

CREATE TABLE queue.idempotency (
    key text NOT NULL,
    fingerprint text NOT NULL,
    plan bigint,
    tasks bigint[] NOT NULL,
    at timestamp with time zone NOT NULL
);

ALTER TABLE queue.idempotency OWNER TO taskomatic_owner;

-- Name: limit_lock; Type: TABLE; Schema: queue

CREATE TABLE queue.limit_lock (
    one boolean DEFAULT true NOT NULL,
    CONSTRAINT limit_lock_one_check CHECK (one)
);

ALTER TABLE queue.limit_lock OWNER TO taskomatic_owner;

-- Name: log; Type: TABLE; Schema: queue

CREATE TABLE queue.log (
    id bigint NOT NULL,
    task bigint NOT NULL,
    attempt integer,
    at timestamp with time zone NOT NULL,
    level text NOT NULL,
    message text NOT NULL,
    data jsonb,
    CONSTRAINT log_level_check CHECK ((level = ANY (ARRAY['debug'::text, 'info'::text, 'warn'::text, 'error'::text])))
);

ALTER TABLE queue.log OWNER TO taskomatic_owner;

-- Name: log_id_seq; Type: SEQUENCE; Schema: queue

ALTER TABLE queue.log ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME queue.log_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- Name: parked; Type: TABLE; Schema: queue

CREATE TABLE queue.parked (
    task bigint NOT NULL,
    key text NOT NULL,
    reason text NOT NULL,
    since timestamp with time zone NOT NULL
);

ALTER TABLE queue.parked OWNER TO taskomatic_owner;

-- Name: scheduled; Type: TABLE; Schema: queue

CREATE TABLE queue.scheduled (
    task bigint NOT NULL,
    due timestamp with time zone NOT NULL
);

ALTER TABLE queue.scheduled OWNER TO taskomatic_owner;

-- Name: open_state; Type: VIEW; Schema: queue

CREATE VIEW queue.open_state AS
 SELECT w.task,
    (
        CASE
            WHEN (EXISTS ( SELECT
               FROM queue.held h
              WHERE (h.task = w.task))) THEN 'held'::text
            WHEN ((w.unmet > 0) OR (w.doomed_by IS NOT NULL)) THEN 'waiting'::text
            WHEN (EXISTS ( SELECT
               FROM queue.scheduled s
              WHERE (s.task = w.task))) THEN 'scheduled'::text
            WHEN (EXISTS ( SELECT
               FROM queue.parked p
              WHERE (p.task = w.task))) THEN 'parked'::text
            ELSE 'waiting'::text
        END)::queue.state AS state,
    w.attempts,
    w."position",
    NULL::bigint AS dispatcher,
    NULL::timestamp with time zone AS started_at
   FROM queue.wait w
UNION ALL
 SELECT ready.task,
    'ready'::queue.state AS state,
    ready.attempts,
    ready."position",
    NULL::bigint AS dispatcher,
    NULL::timestamp with time zone AS started_at
   FROM queue.ready
UNION ALL
 SELECT r.task,
        CASE
            WHEN (r.phase = 'uncertain'::queue.state) THEN r.phase
            WHEN (EXISTS ( SELECT
               FROM queue.cancel_request c
              WHERE (c.task = r.task))) THEN 'cancelling'::queue.state
            ELSE r.phase
        END AS state,
    r.attempt AS attempts,
    r."position",
    r.dispatcher,
    r.started_at
   FROM queue.run r;

ALTER TABLE queue.open_state OWNER TO taskomatic_owner;

-- Name: position; Type: SEQUENCE; Schema: queue

CREATE SEQUENCE queue."position"
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER TABLE queue."position" OWNER TO taskomatic_owner;

-- Name: plan; Type: TABLE; Schema: queue

CREATE TABLE queue.plan (
    id bigint DEFAULT nextval('queue."position"'::regclass) NOT NULL,
    name text,
    on_failure queue.on_failure NOT NULL,
    created_by text NOT NULL,
    reason text,
    created_at timestamp with time zone NOT NULL,
    tasks integer NOT NULL
);

ALTER TABLE queue.plan OWNER TO taskomatic_owner;

-- Name: prerequisite; Type: TABLE; Schema: queue

CREATE TABLE queue.prerequisite (
    task bigint NOT NULL,
    prerequisite bigint NOT NULL,
    needs queue.needs NOT NULL,
    derived boolean NOT NULL,
    CONSTRAINT prerequisite_is_another_task CHECK ((task <> prerequisite))
);

ALTER TABLE queue.prerequisite OWNER TO taskomatic_owner;

-- Name: progress; Type: TABLE; Schema: queue

CREATE TABLE queue.progress (
    task bigint NOT NULL,
    attempt integer NOT NULL,
    progress jsonb NOT NULL,
    at timestamp with time zone NOT NULL
)
WITH (fillfactor='50');

ALTER TABLE queue.progress OWNER TO taskomatic_owner;

-- Name: resource; Type: TABLE; Schema: queue

CREATE TABLE queue.resource (
    id integer NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C"
);

ALTER TABLE queue.resource OWNER TO taskomatic_owner;

-- Name: resource_id_seq; Type: SEQUENCE; Schema: queue

ALTER TABLE queue.resource ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME queue.resource_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- Name: task; Type: TABLE; Schema: queue

CREATE TABLE queue.task (
    id bigint NOT NULL,
    action text NOT NULL,
    title text NOT NULL,
    args jsonb NOT NULL,
    claims jsonb NOT NULL,
    effects jsonb NOT NULL,
    limits jsonb,
    undo jsonb,
    plan bigint,
    parent bigint,
    path bigint[],
    priority smallint NOT NULL,
    not_before timestamp with time zone,
    binds boolean NOT NULL,
    created_by text NOT NULL,
    reason text,
    created_at timestamp with time zone NOT NULL,
    outcome queue.state,
    result jsonb,
    error jsonb,
    attempts integer DEFAULT 0 NOT NULL,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    undo_state queue.undo_state DEFAULT 'none'::queue.undo_state NOT NULL,
    CONSTRAINT task_child_has_path CHECK (((parent IS NULL) = (path IS NULL))),
    CONSTRAINT task_ended_iff_outcome CHECK (((outcome IS NULL) = (ended_at IS NULL))),
    CONSTRAINT task_has_error_iff_ended_badly CHECK (((error IS NOT NULL) = ((outcome IS NOT NULL) AND (outcome <> 'complete'::queue.state)))),
    CONSTRAINT task_outcome_is_an_end CHECK ((outcome = ANY (ARRAY['complete'::queue.state, 'failed'::queue.state, 'cancelled'::queue.state]))),
    CONSTRAINT task_priority_in_range CHECK (((priority >= '-100'::integer) AND (priority <= 100)))
)
PARTITION BY RANGE (id);

ALTER TABLE queue.task OWNER TO taskomatic_owner;

-- Name: runnable; Type: VIEW; Schema: queue

CREATE VIEW queue.runnable AS
 SELECT t.id AS task
   FROM queue.task t
  WHERE ((t.outcome IS NULL) AND (NOT (EXISTS ( SELECT
           FROM queue.held h
          WHERE (h.task = t.id)))) AND (NOT (EXISTS ( SELECT
           FROM queue.parked p
          WHERE (p.task = t.id)))) AND (NOT (EXISTS ( SELECT
           FROM queue.scheduled s
          WHERE ((s.task = t.id) AND (s.due > queue.now()))))) AND (NOT (EXISTS ( SELECT
           FROM queue.run r
          WHERE ((r.task = t.id) AND (NOT ((r.phase = 'awaiting'::queue.state) AND (EXISTS ( SELECT
                   FROM queue.task c
                  WHERE (c.parent = t.id))) AND (NOT (EXISTS ( SELECT
                   FROM queue.task c
                  WHERE ((c.parent = t.id) AND (c.outcome IS NULL))))) AND (r.dispatcher IS NULL))))))) AND (NOT (EXISTS ( SELECT
           FROM (queue.prerequisite p
             JOIN queue.task b ON ((b.id = p.prerequisite)))
          WHERE ((p.task = t.id) AND ((b.outcome IS NULL) OR ((p.needs = 'complete'::queue.needs) AND (b.outcome <> 'complete'::queue.state))))))));

ALTER TABLE queue.runnable OWNER TO taskomatic_owner;

-- Name: stale_report; Type: TABLE; Schema: queue

CREATE TABLE queue.stale_report (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    dispatcher bigint NOT NULL,
    task bigint NOT NULL,
    attempt integer NOT NULL,
    said text NOT NULL
);

ALTER TABLE queue.stale_report OWNER TO taskomatic_owner;

-- Name: stale_report_id_seq; Type: SEQUENCE; Schema: queue

ALTER TABLE queue.stale_report ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME queue.stale_report_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- Name: task_000000; Type: TABLE; Schema: queue

CREATE TABLE queue.task_000000 (
    id bigint NOT NULL,
    action text NOT NULL,
    title text NOT NULL,
    args jsonb NOT NULL,
    claims jsonb NOT NULL,
    effects jsonb NOT NULL,
    limits jsonb,
    undo jsonb,
    plan bigint,
    parent bigint,
    path bigint[],
    priority smallint NOT NULL,
    not_before timestamp with time zone,
    binds boolean NOT NULL,
    created_by text NOT NULL,
    reason text,
    created_at timestamp with time zone NOT NULL,
    outcome queue.state,
    result jsonb,
    error jsonb,
    attempts integer DEFAULT 0 NOT NULL,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    undo_state queue.undo_state DEFAULT 'none'::queue.undo_state NOT NULL,
    CONSTRAINT task_child_has_path CHECK (((parent IS NULL) = (path IS NULL))),
    CONSTRAINT task_ended_iff_outcome CHECK (((outcome IS NULL) = (ended_at IS NULL))),
    CONSTRAINT task_has_error_iff_ended_badly CHECK (((error IS NOT NULL) = ((outcome IS NOT NULL) AND (outcome <> 'complete'::queue.state)))),
    CONSTRAINT task_outcome_is_an_end CHECK ((outcome = ANY (ARRAY['complete'::queue.state, 'failed'::queue.state, 'cancelled'::queue.state]))),
    CONSTRAINT task_priority_in_range CHECK (((priority >= '-100'::integer) AND (priority <= 100)))
)
WITH (fillfactor='60');

ALTER TABLE queue.task_000000 OWNER TO taskomatic_owner;

-- Name: task_000001; Type: TABLE; Schema: queue

CREATE TABLE queue.task_000001 (
    id bigint NOT NULL,
    action text NOT NULL,
    title text NOT NULL,
    args jsonb NOT NULL,
    claims jsonb NOT NULL,
    effects jsonb NOT NULL,
    limits jsonb,
    undo jsonb,
    plan bigint,
    parent bigint,
    path bigint[],
    priority smallint NOT NULL,
    not_before timestamp with time zone,
    binds boolean NOT NULL,
    created_by text NOT NULL,
    reason text,
    created_at timestamp with time zone NOT NULL,
    outcome queue.state,
    result jsonb,
    error jsonb,
    attempts integer DEFAULT 0 NOT NULL,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    undo_state queue.undo_state DEFAULT 'none'::queue.undo_state NOT NULL,
    CONSTRAINT task_child_has_path CHECK (((parent IS NULL) = (path IS NULL))),
    CONSTRAINT task_ended_iff_outcome CHECK (((outcome IS NULL) = (ended_at IS NULL))),
    CONSTRAINT task_has_error_iff_ended_badly CHECK (((error IS NOT NULL) = ((outcome IS NOT NULL) AND (outcome <> 'complete'::queue.state)))),
    CONSTRAINT task_outcome_is_an_end CHECK ((outcome = ANY (ARRAY['complete'::queue.state, 'failed'::queue.state, 'cancelled'::queue.state]))),
    CONSTRAINT task_priority_in_range CHECK (((priority >= '-100'::integer) AND (priority <= 100)))
)
WITH (fillfactor='60');

ALTER TABLE queue.task_000001 OWNER TO taskomatic_owner;

-- Name: task_000002; Type: TABLE; Schema: queue

CREATE TABLE queue.task_000002 (
    id bigint NOT NULL,
    action text NOT NULL,
    title text NOT NULL,
    args jsonb NOT NULL,
    claims jsonb NOT NULL,
    effects jsonb NOT NULL,
    limits jsonb,
    undo jsonb,
    plan bigint,
    parent bigint,
    path bigint[],
    priority smallint NOT NULL,
    not_before timestamp with time zone,
    binds boolean NOT NULL,
    created_by text NOT NULL,
    reason text,
    created_at timestamp with time zone NOT NULL,
    outcome queue.state,
    result jsonb,
    error jsonb,
    attempts integer DEFAULT 0 NOT NULL,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    undo_state queue.undo_state DEFAULT 'none'::queue.undo_state NOT NULL,
    CONSTRAINT task_child_has_path CHECK (((parent IS NULL) = (path IS NULL))),
    CONSTRAINT task_ended_iff_outcome CHECK (((outcome IS NULL) = (ended_at IS NULL))),
    CONSTRAINT task_has_error_iff_ended_badly CHECK (((error IS NOT NULL) = ((outcome IS NOT NULL) AND (outcome <> 'complete'::queue.state)))),
    CONSTRAINT task_outcome_is_an_end CHECK ((outcome = ANY (ARRAY['complete'::queue.state, 'failed'::queue.state, 'cancelled'::queue.state]))),
    CONSTRAINT task_priority_in_range CHECK (((priority >= '-100'::integer) AND (priority <= 100)))
)
WITH (fillfactor='60');

ALTER TABLE queue.task_000002 OWNER TO taskomatic_owner;

-- Name: task_state; Type: VIEW; Schema: queue

CREATE VIEW queue.task_state AS
 SELECT t.id,
    COALESCE(t.outcome, o.state) AS state,
    COALESCE(o.attempts, t.attempts) AS attempts,
    COALESCE(o.started_at, t.started_at) AS started_at,
    o.dispatcher,
    o."position"
   FROM (queue.task t
     LEFT JOIN queue.open_state o ON (((o.task = t.id) AND (t.outcome IS NULL))));

ALTER TABLE queue.task_state OWNER TO taskomatic_owner;

-- Name: undo_step; Type: TABLE; Schema: queue

CREATE TABLE queue.undo_step (
    task bigint NOT NULL,
    attempt integer NOT NULL,
    step jsonb NOT NULL,
    at timestamp with time zone NOT NULL
);

ALTER TABLE queue.undo_step OWNER TO taskomatic_owner;

-- Name: verdict; Type: TABLE; Schema: queue

CREATE TABLE queue.verdict (
    id bigint NOT NULL,
    task bigint NOT NULL,
    attempt integer NOT NULL,
    happened boolean NOT NULL,
    given_by text NOT NULL,
    reason text NOT NULL,
    evidence jsonb,
    at timestamp with time zone NOT NULL
);

ALTER TABLE queue.verdict OWNER TO taskomatic_owner;

-- Name: verdict_id_seq; Type: SEQUENCE; Schema: queue

ALTER TABLE queue.verdict ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME queue.verdict_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- Name: task_000000; Type: TABLE ATTACH; Schema: queue

ALTER TABLE ONLY queue.task ATTACH PARTITION queue.task_000000 FOR VALUES FROM ('0') TO ('1000000');

-- Name: task_000001; Type: TABLE ATTACH; Schema: queue

ALTER TABLE ONLY queue.task ATTACH PARTITION queue.task_000001 FOR VALUES FROM ('1000000') TO ('2000000');

-- Name: task_000002; Type: TABLE ATTACH; Schema: queue

ALTER TABLE ONLY queue.task ATTACH PARTITION queue.task_000002 FOR VALUES FROM ('2000000') TO ('3000000');

-- Name: autostart autostart_pkey; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.autostart
    ADD CONSTRAINT autostart_pkey PRIMARY KEY (vm);

-- Name: cleared cleared_pkey; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.cleared
    ADD CONSTRAINT cleared_pkey PRIMARY KEY (host, vm);

-- Name: definition definition_pkey; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.definition
    ADD CONSTRAINT definition_pkey PRIMARY KEY (vm);

-- Name: disk disk_pkey; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.disk
    ADD CONSTRAINT disk_pkey PRIMARY KEY (vm, host, target);

-- Name: host_label host_label_pkey; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.host_label
    ADD CONSTRAINT host_label_pkey PRIMARY KEY (host, key);

-- Name: host_load host_load_pkey; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.host_load
    ADD CONSTRAINT host_load_pkey PRIMARY KEY (host);

-- Name: host host_pkey; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.host
    ADD CONSTRAINT host_pkey PRIMARY KEY (name);

-- Name: host host_uuid_key; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.host
    ADD CONSTRAINT host_uuid_key UNIQUE (uuid);

-- Name: image image_pkey; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.image
    ADD CONSTRAINT image_pkey PRIMARY KEY (name);

-- Name: installation installation_one_row_key; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.installation
    ADD CONSTRAINT installation_one_row_key UNIQUE (one_row);

-- Name: installation installation_pkey; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (instance);

-- Name: kept_snapshot kept_snapshot_pkey; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.kept_snapshot
    ADD CONSTRAINT kept_snapshot_pkey PRIMARY KEY (vm, name);

-- Name: network network_pkey; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.network
    ADD CONSTRAINT network_pkey PRIMARY KEY (host, name);

-- Name: nic nic_pkey; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.nic
    ADD CONSTRAINT nic_pkey PRIMARY KEY (vm, host, mac);

-- Name: image one_image_a_volume; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.image
    ADD CONSTRAINT one_image_a_volume UNIQUE (store, volume);

-- Name: pool pool_pkey; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.pool
    ADD CONSTRAINT pool_pkey PRIMARY KEY (host, name);

-- Name: reservation reservation_pkey; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.reservation
    ADD CONSTRAINT reservation_pkey PRIMARY KEY (task);

-- Name: saved_image saved_image_pkey; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.saved_image
    ADD CONSTRAINT saved_image_pkey PRIMARY KEY (vm);

-- Name: store store_pkey; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.store
    ADD CONSTRAINT store_pkey PRIMARY KEY (name);

-- Name: store_reservation store_reservation_pkey; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.store_reservation
    ADD CONSTRAINT store_reservation_pkey PRIMARY KEY (task, store, volume);

-- Name: store store_source_key; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.store
    ADD CONSTRAINT store_source_key UNIQUE (source);

-- Name: vm_label vm_label_pkey; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.vm_label
    ADD CONSTRAINT vm_label_pkey PRIMARY KEY (vm, key);

-- Name: vm vm_pkey; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.vm
    ADD CONSTRAINT vm_pkey PRIMARY KEY (uuid);

-- Name: volume volume_pkey; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.volume
    ADD CONSTRAINT volume_pkey PRIMARY KEY (host, pool, name);

-- Name: watch watch_pkey; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.watch
    ADD CONSTRAINT watch_pkey PRIMARY KEY (host);

-- Name: watcher watcher_pkey; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.watcher
    ADD CONSTRAINT watcher_pkey PRIMARY KEY (dispatcher);

-- Name: whereabouts whereabouts_pkey; Type: CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.whereabouts
    ADD CONSTRAINT whereabouts_pkey PRIMARY KEY (vm, host);

-- Name: applied applied_pkey; Type: CONSTRAINT; Schema: migration

ALTER TABLE ONLY migration.applied
    ADD CONSTRAINT applied_pkey PRIMARY KEY (number);

-- Name: attempt attempt_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.attempt
    ADD CONSTRAINT attempt_pkey PRIMARY KEY (task, attempt);

-- Name: audit audit_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (one);

-- Name: bound bound_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.bound
    ADD CONSTRAINT bound_pkey PRIMARY KEY (task);

-- Name: cancel_request cancel_request_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.cancel_request
    ADD CONSTRAINT cancel_request_pkey PRIMARY KEY (task);

-- Name: cap cap_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.cap
    ADD CONSTRAINT cap_pkey PRIMARY KEY (key);

-- Name: claim claim_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.claim
    ADD CONSTRAINT claim_pkey PRIMARY KEY (task, resource);

-- Name: cost cost_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.cost
    ADD CONSTRAINT cost_pkey PRIMARY KEY (task, key);

-- Name: dispatcher dispatcher_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.dispatcher
    ADD CONSTRAINT dispatcher_pkey PRIMARY KEY (id);

-- Name: effect effect_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.effect
    ADD CONSTRAINT effect_pkey PRIMARY KEY (task, ordinal);

-- Name: event event_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.event
    ADD CONSTRAINT event_pkey PRIMARY KEY (id);

-- Name: family family_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.family
    ADD CONSTRAINT family_pkey PRIMARY KEY (parent);

-- Name: guard_find guard_find_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.guard_find
    ADD CONSTRAINT guard_find_pkey PRIMARY KEY (id);

-- Name: held held_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.held
    ADD CONSTRAINT held_pkey PRIMARY KEY (task);

-- Name: idempotency idempotency_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.idempotency
    ADD CONSTRAINT idempotency_pkey PRIMARY KEY (key);

-- Name: limit_lock limit_lock_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.limit_lock
    ADD CONSTRAINT limit_lock_pkey PRIMARY KEY (one);

-- Name: log log_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.log
    ADD CONSTRAINT log_pkey PRIMARY KEY (id);

-- Name: parked parked_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.parked
    ADD CONSTRAINT parked_pkey PRIMARY KEY (task);

-- Name: plan plan_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.plan
    ADD CONSTRAINT plan_pkey PRIMARY KEY (id);

-- Name: prerequisite prerequisite_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.prerequisite
    ADD CONSTRAINT prerequisite_pkey PRIMARY KEY (task, prerequisite);

-- Name: progress progress_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.progress
    ADD CONSTRAINT progress_pkey PRIMARY KEY (task);

-- Name: ready ready_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.ready
    ADD CONSTRAINT ready_pkey PRIMARY KEY (task);

-- Name: resource resource_name_key; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.resource
    ADD CONSTRAINT resource_name_key UNIQUE (name);

-- Name: resource resource_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.resource
    ADD CONSTRAINT resource_pkey PRIMARY KEY (id);

-- Name: run run_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.run
    ADD CONSTRAINT run_pkey PRIMARY KEY (task);

-- Name: scheduled scheduled_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.scheduled
    ADD CONSTRAINT scheduled_pkey PRIMARY KEY (task);

-- Name: stale_report stale_report_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.stale_report
    ADD CONSTRAINT stale_report_pkey PRIMARY KEY (id);

-- Name: task task_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.task
    ADD CONSTRAINT task_pkey PRIMARY KEY (id);

-- Name: task_000000 task_000000_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.task_000000
    ADD CONSTRAINT task_000000_pkey PRIMARY KEY (id);

-- Name: task_000001 task_000001_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.task_000001
    ADD CONSTRAINT task_000001_pkey PRIMARY KEY (id);

-- Name: task_000002 task_000002_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.task_000002
    ADD CONSTRAINT task_000002_pkey PRIMARY KEY (id);

-- Name: undo_step undo_step_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.undo_step
    ADD CONSTRAINT undo_step_pkey PRIMARY KEY (task);

-- Name: verdict verdict_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.verdict
    ADD CONSTRAINT verdict_pkey PRIMARY KEY (id);

-- Name: wait wait_pkey; Type: CONSTRAINT; Schema: queue

ALTER TABLE ONLY queue.wait
    ADD CONSTRAINT wait_pkey PRIMARY KEY (task);

-- Name: disk_source; Type: INDEX; Schema: inventory

CREATE INDEX disk_source ON inventory.disk USING btree (source, host);

-- Name: host_label_value; Type: INDEX; Schema: inventory

CREATE INDEX host_label_value ON inventory.host_label USING btree (key, value);

-- Name: nic_mac; Type: INDEX; Schema: inventory

CREATE INDEX nic_mac ON inventory.nic USING btree (mac);

-- Name: pool_store; Type: INDEX; Schema: inventory

CREATE INDEX pool_store ON inventory.pool USING btree (store);

-- Name: reservation_host; Type: INDEX; Schema: inventory

CREATE INDEX reservation_host ON inventory.reservation USING btree (host);

-- Name: store_reservation_store; Type: INDEX; Schema: inventory

CREATE INDEX store_reservation_store ON inventory.store_reservation USING btree (store);

-- Name: vm_gone; Type: INDEX; Schema: inventory

CREATE INDEX vm_gone ON inventory.vm USING btree (gone_at) WHERE (gone_at IS NOT NULL);

-- Name: vm_home; Type: INDEX; Schema: inventory

CREATE INDEX vm_home ON inventory.vm USING btree (home) WHERE (gone_at IS NULL);

-- Name: vm_label_value; Type: INDEX; Schema: inventory

CREATE INDEX vm_label_value ON inventory.vm_label USING btree (key, value);

-- Name: vm_name; Type: INDEX; Schema: inventory

CREATE INDEX vm_name ON inventory.vm USING btree (name) WHERE (gone_at IS NULL);

-- Name: volume_backing; Type: INDEX; Schema: inventory

CREATE INDEX volume_backing ON inventory.volume USING btree (backing) WHERE (backing IS NOT NULL);

-- Name: volume_path; Type: INDEX; Schema: inventory

CREATE INDEX volume_path ON inventory.volume USING btree (path);

-- Name: whereabouts_host; Type: INDEX; Schema: inventory

CREATE INDEX whereabouts_host ON inventory.whereabouts USING btree (host);

-- Name: claim_exclusive; Type: INDEX; Schema: queue

CREATE INDEX claim_exclusive ON queue.claim USING btree (resource, "position") WHERE (exclusive AND (NOT own));

-- Name: claim_line; Type: INDEX; Schema: queue

CREATE INDEX claim_line ON queue.claim USING btree (resource, "position");

-- Name: claim_own; Type: INDEX; Schema: queue

CREATE INDEX claim_own ON queue.claim USING btree (resource) WHERE own;

-- Name: cost_granted; Type: INDEX; Schema: queue

CREATE INDEX cost_granted ON queue.cost USING btree (key) INCLUDE (units) WHERE granted;

-- Name: cost_queued; Type: INDEX; Schema: queue

CREATE INDEX cost_queued ON queue.cost USING btree (key, rank, "position", task) WHERE queued;

-- Name: effect_subject; Type: INDEX; Schema: queue

CREATE INDEX effect_subject ON queue.effect USING btree (subject);

-- Name: log_of_task; Type: INDEX; Schema: queue

CREATE INDEX log_of_task ON queue.log USING btree (task, id);

-- Name: parked_key; Type: INDEX; Schema: queue

CREATE INDEX parked_key ON queue.parked USING btree (key);

-- Name: prerequisite_dependants; Type: INDEX; Schema: queue

CREATE INDEX prerequisite_dependants ON queue.prerequisite USING btree (prerequisite);

-- Name: ready_order; Type: INDEX; Schema: queue

CREATE INDEX ready_order ON queue.ready USING btree (rank, "position", task);

-- Name: scheduled_due; Type: INDEX; Schema: queue

CREATE INDEX scheduled_due ON queue.scheduled USING btree (due);

-- Name: task_children; Type: INDEX; Schema: queue

CREATE INDEX task_children ON ONLY queue.task USING btree (parent) WHERE (parent IS NOT NULL);

-- Name: task_000000_parent_idx; Type: INDEX; Schema: queue

CREATE INDEX task_000000_parent_idx ON queue.task_000000 USING btree (parent) WHERE (parent IS NOT NULL);

-- Name: task_of_plan; Type: INDEX; Schema: queue

CREATE INDEX task_of_plan ON ONLY queue.task USING btree (plan) WHERE (plan IS NOT NULL);

-- Name: task_000000_plan_idx; Type: INDEX; Schema: queue

CREATE INDEX task_000000_plan_idx ON queue.task_000000 USING btree (plan) WHERE (plan IS NOT NULL);

-- Name: task_000001_parent_idx; Type: INDEX; Schema: queue

CREATE INDEX task_000001_parent_idx ON queue.task_000001 USING btree (parent) WHERE (parent IS NOT NULL);

-- Name: task_000001_plan_idx; Type: INDEX; Schema: queue

CREATE INDEX task_000001_plan_idx ON queue.task_000001 USING btree (plan) WHERE (plan IS NOT NULL);

-- Name: task_000002_parent_idx; Type: INDEX; Schema: queue

CREATE INDEX task_000002_parent_idx ON queue.task_000002 USING btree (parent) WHERE (parent IS NOT NULL);

-- Name: task_000002_plan_idx; Type: INDEX; Schema: queue

CREATE INDEX task_000002_plan_idx ON queue.task_000002 USING btree (plan) WHERE (plan IS NOT NULL);

-- Name: verdict_of_task; Type: INDEX; Schema: queue

CREATE INDEX verdict_of_task ON queue.verdict USING btree (task);

-- Name: wait_doomed; Type: INDEX; Schema: queue

CREATE INDEX wait_doomed ON queue.wait USING btree (task) WHERE (doomed_by IS NOT NULL);

-- Name: wait_placeable; Type: INDEX; Schema: queue

CREATE INDEX wait_placeable ON queue.wait USING btree (task) WHERE (("position" IS NULL) AND (barred = 0) AND (behind = 0));

-- Name: task_000000_parent_idx; Type: INDEX ATTACH; Schema: queue

ALTER INDEX queue.task_children ATTACH PARTITION queue.task_000000_parent_idx;

-- Name: task_000000_pkey; Type: INDEX ATTACH; Schema: queue

ALTER INDEX queue.task_pkey ATTACH PARTITION queue.task_000000_pkey;

-- Name: task_000000_plan_idx; Type: INDEX ATTACH; Schema: queue

ALTER INDEX queue.task_of_plan ATTACH PARTITION queue.task_000000_plan_idx;

-- Name: task_000001_parent_idx; Type: INDEX ATTACH; Schema: queue

ALTER INDEX queue.task_children ATTACH PARTITION queue.task_000001_parent_idx;

-- Name: task_000001_pkey; Type: INDEX ATTACH; Schema: queue

ALTER INDEX queue.task_pkey ATTACH PARTITION queue.task_000001_pkey;

-- Name: task_000001_plan_idx; Type: INDEX ATTACH; Schema: queue

ALTER INDEX queue.task_of_plan ATTACH PARTITION queue.task_000001_plan_idx;

-- Name: task_000002_parent_idx; Type: INDEX ATTACH; Schema: queue

ALTER INDEX queue.task_children ATTACH PARTITION queue.task_000002_parent_idx;

-- Name: task_000002_pkey; Type: INDEX ATTACH; Schema: queue

ALTER INDEX queue.task_pkey ATTACH PARTITION queue.task_000002_pkey;

-- Name: task_000002_plan_idx; Type: INDEX ATTACH; Schema: queue

ALTER INDEX queue.task_of_plan ATTACH PARTITION queue.task_000002_plan_idx;

-- Name: host host_answers_again; Type: TRIGGER; Schema: inventory

CREATE TRIGGER host_answers_again BEFORE UPDATE OF connection ON inventory.host FOR EACH ROW WHEN (((new.connection = 'up'::inventory.connection) AND (new.off_at IS NOT NULL) AND (new.off_ended_at IS NULL))) EXECUTE FUNCTION inventory.end_off();

-- Name: host host_has_booted; Type: TRIGGER; Schema: inventory

CREATE TRIGGER host_has_booted BEFORE UPDATE OF boot_time ON inventory.host FOR EACH ROW WHEN ((new.boot_time IS DISTINCT FROM old.boot_time)) EXECUTE FUNCTION inventory.note_boot();

-- Name: whereabouts nics_of_new_sights; Type: TRIGGER; Schema: inventory

CREATE TRIGGER nics_of_new_sights AFTER INSERT ON inventory.whereabouts FOR EACH ROW WHEN ((new.observed IS NOT NULL)) EXECUTE FUNCTION inventory.keep_nics();

-- Name: whereabouts nics_of_sights; Type: TRIGGER; Schema: inventory

CREATE TRIGGER nics_of_sights AFTER UPDATE OF state, observed ON inventory.whereabouts FOR EACH ROW WHEN (((new.observed IS NOT NULL) AND (new.state <> 'unknown'::inventory.presence) AND ((old.state IS DISTINCT FROM new.state) OR ((old.observed -> 'nics'::text) IS DISTINCT FROM (new.observed -> 'nics'::text))))) EXECUTE FUNCTION inventory.keep_nics();

-- Name: pool pool_has_more_room; Type: TRIGGER; Schema: inventory

CREATE TRIGGER pool_has_more_room AFTER UPDATE ON inventory.pool FOR EACH ROW WHEN ((new.active AND ((NOT old.active) OR (new.available_bytes > old.available_bytes)))) EXECUTE FUNCTION inventory.tell_store_room();

-- Name: whereabouts vm_came_to_run; Type: TRIGGER; Schema: inventory

CREATE TRIGGER vm_came_to_run AFTER INSERT ON inventory.whereabouts FOR EACH ROW WHEN ((new.state = 'active'::inventory.presence)) EXECUTE FUNCTION inventory.saved_image_is_stale();

-- Name: whereabouts vm_ran_again; Type: TRIGGER; Schema: inventory

CREATE TRIGGER vm_ran_again AFTER UPDATE OF state ON inventory.whereabouts FOR EACH ROW WHEN (((new.state = 'active'::inventory.presence) AND (old.state <> 'active'::inventory.presence))) EXECUTE FUNCTION inventory.saved_image_is_stale();

-- Name: volume volumes_gone; Type: TRIGGER; Schema: inventory

CREATE TRIGGER volumes_gone AFTER DELETE ON inventory.volume REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION inventory.tell_volumes_gone();

-- Name: autostart autostart_vm_fkey; Type: FK CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.autostart
    ADD CONSTRAINT autostart_vm_fkey FOREIGN KEY (vm) REFERENCES inventory.vm(uuid) ON DELETE CASCADE;

-- Name: cleared cleared_host_fkey; Type: FK CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.cleared
    ADD CONSTRAINT cleared_host_fkey FOREIGN KEY (host) REFERENCES inventory.host(name) ON DELETE CASCADE;

-- Name: disk disk_host_fkey; Type: FK CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.disk
    ADD CONSTRAINT disk_host_fkey FOREIGN KEY (host) REFERENCES inventory.host(name) ON DELETE CASCADE;

-- Name: host_label host_label_host_fkey; Type: FK CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.host_label
    ADD CONSTRAINT host_label_host_fkey FOREIGN KEY (host) REFERENCES inventory.host(name) ON DELETE CASCADE;

-- Name: host_load host_load_host_fkey; Type: FK CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.host_load
    ADD CONSTRAINT host_load_host_fkey FOREIGN KEY (host) REFERENCES inventory.host(name) ON DELETE CASCADE;

-- Name: network network_host_fkey; Type: FK CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.network
    ADD CONSTRAINT network_host_fkey FOREIGN KEY (host) REFERENCES inventory.host(name) ON DELETE CASCADE;

-- Name: nic nic_host_fkey; Type: FK CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.nic
    ADD CONSTRAINT nic_host_fkey FOREIGN KEY (host) REFERENCES inventory.host(name) ON DELETE CASCADE;

-- Name: pool pool_host_fkey; Type: FK CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.pool
    ADD CONSTRAINT pool_host_fkey FOREIGN KEY (host) REFERENCES inventory.host(name) ON DELETE CASCADE;

-- Name: pool pool_store_fkey; Type: FK CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.pool
    ADD CONSTRAINT pool_store_fkey FOREIGN KEY (store) REFERENCES inventory.store(name) ON UPDATE CASCADE;

-- Name: reservation reservation_host_fkey; Type: FK CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.reservation
    ADD CONSTRAINT reservation_host_fkey FOREIGN KEY (host) REFERENCES inventory.host(name) ON DELETE CASCADE;

-- Name: saved_image saved_image_host_fkey; Type: FK CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.saved_image
    ADD CONSTRAINT saved_image_host_fkey FOREIGN KEY (host) REFERENCES inventory.host(name) ON DELETE CASCADE;

-- Name: saved_image saved_image_vm_fkey; Type: FK CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.saved_image
    ADD CONSTRAINT saved_image_vm_fkey FOREIGN KEY (vm) REFERENCES inventory.vm(uuid) ON DELETE CASCADE;

-- Name: store_reservation store_reservation_store_fkey; Type: FK CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.store_reservation
    ADD CONSTRAINT store_reservation_store_fkey FOREIGN KEY (store) REFERENCES inventory.store(name) ON UPDATE CASCADE ON DELETE CASCADE;

-- Name: vm_label vm_label_vm_fkey; Type: FK CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.vm_label
    ADD CONSTRAINT vm_label_vm_fkey FOREIGN KEY (vm) REFERENCES inventory.vm(uuid) ON DELETE CASCADE;

-- Name: volume volume_host_pool_fkey; Type: FK CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.volume
    ADD CONSTRAINT volume_host_pool_fkey FOREIGN KEY (host, pool) REFERENCES inventory.pool(host, name) ON DELETE CASCADE;

-- Name: watch watch_host_fkey; Type: FK CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.watch
    ADD CONSTRAINT watch_host_fkey FOREIGN KEY (host) REFERENCES inventory.host(name) ON DELETE CASCADE;

-- Name: whereabouts whereabouts_host_fkey; Type: FK CONSTRAINT; Schema: inventory

ALTER TABLE ONLY inventory.whereabouts
    ADD CONSTRAINT whereabouts_host_fkey FOREIGN KEY (host) REFERENCES inventory.host(name) ON DELETE CASCADE;

-- Name: SCHEMA inventory; Type: ACL; Schema: -

GRANT USAGE ON SCHEMA inventory TO taskomatic_client;

-- Name: SCHEMA queue; Type: ACL; Schema: -

GRANT USAGE ON SCHEMA queue TO taskomatic_client;

-- Name: TABLE reservation; Type: ACL; Schema: inventory

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE inventory.reservation TO taskomatic_client;

-- Name: TABLE whereabouts; Type: ACL; Schema: inventory

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE inventory.whereabouts TO taskomatic_client;

-- Name: TABLE ready; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.ready TO taskomatic_client;

-- Name: TABLE run; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.run TO taskomatic_client;

-- Name: TABLE wait; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.wait TO taskomatic_client;

-- Name: TABLE place; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.place TO taskomatic_client;

-- Name: FUNCTION arriving(p_host text); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.arriving(p_host text) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.arriving(p_host text) TO taskomatic_client;

-- Name: FUNCTION begin_maintenance(p_host text); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.begin_maintenance(p_host text) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.begin_maintenance(p_host text) TO taskomatic_client;

-- Name: FUNCTION candidates(p_only text[], p_vm uuid, p_task bigint, p_memory_mib bigint, p_stores text[], p_networks text[], p_group text, p_resting boolean); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.candidates(p_only text[], p_vm uuid, p_task bigint, p_memory_mib bigint, p_stores text[], p_networks text[], p_group text, p_resting boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.candidates(p_only text[], p_vm uuid, p_task bigint, p_memory_mib bigint, p_stores text[], p_networks text[], p_group text, p_resting boolean) TO taskomatic_client;

-- Name: FUNCTION confirm_off(p_host text, p_reason text, p_by text); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.confirm_off(p_host text, p_reason text, p_by text) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.confirm_off(p_host text, p_reason text, p_by text) TO taskomatic_client;

-- Name: TABLE store; Type: ACL; Schema: inventory

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE inventory.store TO taskomatic_client;

-- Name: FUNCTION counted_bytes(p_store text, p_format text, p_capacity bigint); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.counted_bytes(p_store text, p_format text, p_capacity bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.counted_bytes(p_store text, p_format text, p_capacity bigint) TO taskomatic_client;

-- Name: FUNCTION end_off(); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.end_off() FROM PUBLIC;

-- Name: FUNCTION hand_over_watches(p_dispatcher bigint, p_hosts text[], p_leaves boolean); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.hand_over_watches(p_dispatcher bigint, p_hosts text[], p_leaves boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.hand_over_watches(p_dispatcher bigint, p_hosts text[], p_leaves boolean) TO taskomatic_client;

-- Name: TABLE host; Type: ACL; Schema: inventory

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE inventory.host TO taskomatic_client;

-- Name: FUNCTION in_maintenance(p_host text); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.in_maintenance(p_host text) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.in_maintenance(p_host text) TO taskomatic_client;

-- Name: FUNCTION keep_nics(); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.keep_nics() FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.keep_nics() TO taskomatic_client;

-- Name: TABLE vm; Type: ACL; Schema: inventory

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE inventory.vm TO taskomatic_client;

-- Name: TABLE vm_label; Type: ACL; Schema: inventory

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE inventory.vm_label TO taskomatic_client;

-- Name: FUNCTION kept_apart(p_vm uuid, p_host text, p_group text, p_resting boolean); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.kept_apart(p_vm uuid, p_host text, p_group text, p_resting boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.kept_apart(p_vm uuid, p_host text, p_group text, p_resting boolean) TO taskomatic_client;

-- Name: FUNCTION leave_behind(p_vm uuid, p_host text); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.leave_behind(p_vm uuid, p_host text) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.leave_behind(p_vm uuid, p_host text) TO taskomatic_client;

-- Name: TABLE pool; Type: ACL; Schema: inventory

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE inventory.pool TO taskomatic_client;

-- Name: TABLE volume; Type: ACL; Schema: inventory

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE inventory.volume TO taskomatic_client;

-- Name: FUNCTION listed_volumes(p_store text); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.listed_volumes(p_store text) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.listed_volumes(p_store text) TO taskomatic_client;

-- Name: FUNCTION need_mib(max_memory_mib bigint); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.need_mib(max_memory_mib bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.need_mib(max_memory_mib bigint) TO taskomatic_client;

-- Name: FUNCTION new_macs(p_count integer); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.new_macs(p_count integer) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.new_macs(p_count integer) TO taskomatic_client;

-- Name: FUNCTION note_boot(); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.note_boot() FROM PUBLIC;

-- Name: TABLE store_reservation; Type: ACL; Schema: inventory

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE inventory.store_reservation TO taskomatic_client;

-- Name: FUNCTION promised_bytes(p_store text); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.promised_bytes(p_store text) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.promised_bytes(p_store text) TO taskomatic_client;

-- Name: FUNCTION record_sights(p_sights jsonb); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.record_sights(p_sights jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.record_sights(p_sights jsonb) TO taskomatic_client;

-- Name: FUNCTION record_vms(p_host text, p_generation bigint, p_at timestamp with time zone, p_vms jsonb); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.record_vms(p_host text, p_generation bigint, p_at timestamp with time zone, p_vms jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.record_vms(p_host text, p_generation bigint, p_at timestamp with time zone, p_vms jsonb) TO taskomatic_client;

-- Name: FUNCTION reserve(p_task bigint, p_host text, p_vm uuid, p_memory_mib bigint); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.reserve(p_task bigint, p_host text, p_vm uuid, p_memory_mib bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.reserve(p_task bigint, p_host text, p_vm uuid, p_memory_mib bigint) TO taskomatic_client;

-- Name: FUNCTION reserve_in_stores(p_task bigint, p_volumes jsonb); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.reserve_in_stores(p_task bigint, p_volumes jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.reserve_in_stores(p_task bigint, p_volumes jsonb) TO taskomatic_client;

-- Name: FUNCTION reserve_many(p_tasks bigint[], p_hosts text[], p_vms uuid[], p_memory_mib bigint[]); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.reserve_many(p_tasks bigint[], p_hosts text[], p_vms uuid[], p_memory_mib bigint[]) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.reserve_many(p_tasks bigint[], p_hosts text[], p_vms uuid[], p_memory_mib bigint[]) TO taskomatic_client;

-- Name: FUNCTION saved_image_is_stale(); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.saved_image_is_stale() FROM PUBLIC;

-- Name: FUNCTION set_watched_connection(p_dispatcher bigint, p_host text, p_connection inventory.connection, p_reason text); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.set_watched_connection(p_dispatcher bigint, p_host text, p_connection inventory.connection, p_reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.set_watched_connection(p_dispatcher bigint, p_host text, p_connection inventory.connection, p_reason text) TO taskomatic_client;

-- Name: FUNCTION settle_vms(p_vms uuid[]); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.settle_vms(p_vms uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.settle_vms(p_vms uuid[]) TO taskomatic_client;

-- Name: FUNCTION share_watches(p_dispatcher bigint, OUT holds boolean, OUT taken text[], OUT mine text[], OUT excess integer, OUT first boolean, OUT up_elsewhere text[], OUT fleet text); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.share_watches(p_dispatcher bigint, OUT holds boolean, OUT taken text[], OUT mine text[], OUT excess integer, OUT first boolean, OUT up_elsewhere text[], OUT fleet text) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.share_watches(p_dispatcher bigint, OUT holds boolean, OUT taken text[], OUT mine text[], OUT excess integer, OUT first boolean, OUT up_elsewhere text[], OUT fleet text) TO taskomatic_client;

-- Name: FUNCTION store_room(p_store text, p_task bigint); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.store_room(p_store text, p_task bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.store_room(p_store text, p_task bigint) TO taskomatic_client;

-- Name: FUNCTION sum_loads(p_hosts text[]); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.sum_loads(p_hosts text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.sum_loads(p_hosts text[]) TO taskomatic_client;

-- Name: FUNCTION tell_store_room(); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.tell_store_room() FROM PUBLIC;

-- Name: FUNCTION tell_volumes_gone(); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.tell_volumes_gone() FROM PUBLIC;

-- Name: FUNCTION usable_mib(memory_mib bigint); Type: ACL; Schema: inventory

REVOKE ALL ON FUNCTION inventory.usable_mib(memory_mib bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION inventory.usable_mib(memory_mib bigint) TO taskomatic_client;

-- Name: FUNCTION add_edges(p_task bigint[], p_prerequisite bigint[], p_open bigint[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.add_edges(p_task bigint[], p_prerequisite bigint[], p_open bigint[]) FROM PUBLIC;

-- Name: FUNCTION add_partitions(p_ahead bigint); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.add_partitions(p_ahead bigint) FROM PUBLIC;

-- Name: FUNCTION after_ends(p_good bigint[], p_bad bigint[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.after_ends(p_good bigint[], p_bad bigint[]) FROM PUBLIC;

-- Name: FUNCTION after_unstarted(p_tasks bigint[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.after_unstarted(p_tasks bigint[]) FROM PUBLIC;

-- Name: FUNCTION ancestors(p_task bigint); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.ancestors(p_task bigint) FROM PUBLIC;

-- Name: FUNCTION append_logs(p_lines jsonb); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.append_logs(p_lines jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.append_logs(p_lines jsonb) TO taskomatic_client;

-- Name: FUNCTION attempt_holds(p_task bigint, p_attempt integer); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.attempt_holds(p_task bigint, p_attempt integer) FROM PUBLIC;

-- Name: FUNCTION audit_slice(p_from bigint, p_size integer); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.audit_slice(p_from bigint, p_size integer) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.audit_slice(p_from bigint, p_size integer) TO taskomatic_client;

-- Name: FUNCTION beat(p_dispatcher bigint); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.beat(p_dispatcher bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.beat(p_dispatcher bigint) TO taskomatic_client;

-- Name: FUNCTION bind(p_dispatcher bigint, p_task bigint, p_attempt integer, p_names text[], p_exclusive boolean[], p_bound jsonb, p_limits jsonb); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.bind(p_dispatcher bigint, p_task bigint, p_attempt integer, p_names text[], p_exclusive boolean[], p_bound jsonb, p_limits jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.bind(p_dispatcher bigint, p_task bigint, p_attempt integer, p_names text[], p_exclusive boolean[], p_bound jsonb, p_limits jsonb) TO taskomatic_client;

-- Name: FUNCTION bind_many(p_dispatcher bigint, p_binds jsonb); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.bind_many(p_dispatcher bigint, p_binds jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.bind_many(p_dispatcher bigint, p_binds jsonb) TO taskomatic_client;

-- Name: FUNCTION cancel(p_task bigint, p_by text, p_reason text); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.cancel(p_task bigint, p_by text, p_reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.cancel(p_task bigint, p_by text, p_reason text) TO taskomatic_client;

-- Name: FUNCTION cancel_error(p_task bigint); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.cancel_error(p_task bigint) FROM PUBLIC;

-- Name: FUNCTION cancel_requests(p_dispatcher bigint); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.cancel_requests(p_dispatcher bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.cancel_requests(p_dispatcher bigint) TO taskomatic_client;

-- Name: FUNCTION cap_of(p_key text); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.cap_of(p_key text) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.cap_of(p_key text) TO taskomatic_client;

-- Name: FUNCTION children_ended(p_parents bigint[], p_ended integer[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.children_ended(p_parents bigint[], p_ended integer[]) FROM PUBLIC;

-- Name: FUNCTION children_of(p_parent bigint); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.children_of(p_parent bigint) FROM PUBLIC;

-- Name: FUNCTION closing_edges(p_leaving bigint[], p_resources integer[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.closing_edges(p_leaving bigint[], p_resources integer[]) FROM PUBLIC;

-- Name: FUNCTION drop_effects(p_task bigint, p_attempt integer); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.drop_effects(p_task bigint, p_attempt integer) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.drop_effects(p_task bigint, p_attempt integer) TO taskomatic_client;

-- Name: FUNCTION end_doomed(p_limit integer); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.end_doomed(p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.end_doomed(p_limit integer) TO taskomatic_client;

-- Name: FUNCTION end_unstarted(p_tasks bigint[], p_outcome queue.state, p_errors jsonb[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.end_unstarted(p_tasks bigint[], p_outcome queue.state, p_errors jsonb[]) FROM PUBLIC;

-- Name: FUNCTION ensure_resources(p_names text[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.ensure_resources(p_names text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.ensure_resources(p_names text[]) TO taskomatic_client;

-- Name: FUNCTION exchange_units(p_task bigint, p_limits jsonb, p_rank smallint, p_position bigint); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.exchange_units(p_task bigint, p_limits jsonb, p_rank smallint, p_position bigint) FROM PUBLIC;

-- Name: FUNCTION expand(p_dispatcher bigint, p_task bigint, p_attempt integer, p_children jsonb); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.expand(p_dispatcher bigint, p_task bigint, p_attempt integer, p_children jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.expand(p_dispatcher bigint, p_task bigint, p_attempt integer, p_children jsonb) TO taskomatic_client;

-- Name: FUNCTION give_back(p_tasks bigint[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.give_back(p_tasks bigint[]) FROM PUBLIC;

-- Name: FUNCTION give_verdict(p_task bigint, p_happened boolean, p_by text, p_reason text); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.give_verdict(p_task bigint, p_happened boolean, p_by text, p_reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.give_verdict(p_task bigint, p_happened boolean, p_by text, p_reason text) TO taskomatic_client;

-- Name: FUNCTION grant_units(p_keys text[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.grant_units(p_keys text[]) FROM PUBLIC;

-- Name: FUNCTION guard_poll(p_size integer); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.guard_poll(p_size integer) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.guard_poll(p_size integer) TO taskomatic_client;

-- Name: FUNCTION hold(p_task bigint, p_reason text, p_by text); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.hold(p_task bigint, p_reason text, p_by text) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.hold(p_task bigint, p_reason text, p_by text) TO taskomatic_client;

-- Name: FUNCTION is_orphan(r queue.run, p_at timestamp with time zone, p_dispatcher bigint, p_tasks bigint[], p_attempts integer[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.is_orphan(r queue.run, p_at timestamp with time zone, p_dispatcher bigint, p_tasks bigint[], p_attempts integer[]) FROM PUBLIC;

-- Name: FUNCTION is_recorded(p_task bigint, p_attempt integer, p_said text); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.is_recorded(p_task bigint, p_attempt integer, p_said text) FROM PUBLIC;

-- Name: FUNCTION keep_bound(p_task bigint, p_attempt integer, p_bound jsonb, p_claims jsonb, p_at timestamp with time zone); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.keep_bound(p_task bigint, p_attempt integer, p_bound jsonb, p_claims jsonb, p_at timestamp with time zone) FROM PUBLIC;

-- Name: FUNCTION keep_undo(p_task bigint, p_attempt integer, p_step jsonb); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.keep_undo(p_task bigint, p_attempt integer, p_step jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.keep_undo(p_task bigint, p_attempt integer, p_step jsonb) TO taskomatic_client;

-- Name: FUNCTION lease_holds(p_dispatcher bigint); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.lease_holds(p_dispatcher bigint) FROM PUBLIC;

-- Name: FUNCTION line_edges(p_resource integer[], p_position bigint[], p_task bigint[], p_exclusive boolean[], p_without bigint[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.line_edges(p_resource integer[], p_position bigint[], p_task bigint[], p_exclusive boolean[], p_without bigint[]) FROM PUBLIC;

-- Name: FUNCTION lock_for_rewriting(p_names text[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.lock_for_rewriting(p_names text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.lock_for_rewriting(p_names text[]) TO taskomatic_client;

-- Name: FUNCTION lock_resources(p_names text[], p_exclusive boolean[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.lock_resources(p_names text[], p_exclusive boolean[]) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.lock_resources(p_names text[], p_exclusive boolean[]) TO taskomatic_client;

-- Name: FUNCTION lock_resources_of(p_tasks bigint[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.lock_resources_of(p_tasks bigint[]) FROM PUBLIC;

-- Name: FUNCTION lock_tasks(p_update bigint[], p_share bigint[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.lock_tasks(p_update bigint[], p_share bigint[]) FROM PUBLIC;

-- Name: FUNCTION make_ready(p_tasks bigint[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.make_ready(p_tasks bigint[]) FROM PUBLIC;

-- Name: FUNCTION make_wait(p_tasks bigint[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.make_wait(p_tasks bigint[]) FROM PUBLIC;

-- Name: FUNCTION needing(p_tasks bigint[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.needing(p_tasks bigint[]) FROM PUBLIC;

-- Name: FUNCTION note(p_task bigint, p_message text, p_data jsonb, p_level text); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.note(p_task bigint, p_message text, p_data jsonb, p_level text) FROM PUBLIC;

-- Name: FUNCTION note_find(p_kind text, p_task bigint, p_about jsonb); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.note_find(p_kind text, p_task bigint, p_about jsonb) FROM PUBLIC;

-- Name: FUNCTION note_unbound(p_dispatcher bigint, p_task bigint, p_attempt integer, p_about jsonb); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.note_unbound(p_dispatcher bigint, p_task bigint, p_attempt integer, p_about jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.note_unbound(p_dispatcher bigint, p_task bigint, p_attempt integer, p_about jsonb) TO taskomatic_client;

-- Name: FUNCTION now(); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.now() FROM PUBLIC;
GRANT ALL ON FUNCTION queue.now() TO taskomatic_client;

-- Name: FUNCTION open_effects(p_subjects text[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.open_effects(p_subjects text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.open_effects(p_subjects text[]) TO taskomatic_client;

-- Name: FUNCTION own_edges(p_resource integer[], p_task bigint[], p_exclusive boolean[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.own_edges(p_resource integer[], p_task bigint[], p_exclusive boolean[]) FROM PUBLIC;

-- Name: FUNCTION place_waiting(p_limit integer); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.place_waiting(p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.place_waiting(p_limit integer) TO taskomatic_client;

-- Name: FUNCTION position_of(p_task bigint); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.position_of(p_task bigint) FROM PUBLIC;

-- Name: FUNCTION promote_due(p_at timestamp with time zone); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.promote_due(p_at timestamp with time zone) FROM PUBLIC;

-- Name: FUNCTION prove_lease(p_dispatcher bigint); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.prove_lease(p_dispatcher bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.prove_lease(p_dispatcher bigint) TO taskomatic_client;

-- Name: FUNCTION prune(p_events interval, p_idempotency interval); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.prune(p_events interval, p_idempotency interval) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.prune(p_events interval, p_idempotency interval) TO taskomatic_client;

-- Name: FUNCTION queue_for_units(p_tasks bigint[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.queue_for_units(p_tasks bigint[]) FROM PUBLIC;

-- Name: FUNCTION reached_from(p_tasks bigint[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.reached_from(p_tasks bigint[]) FROM PUBLIC;

-- Name: FUNCTION recount(p_tasks bigint[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.recount(p_tasks bigint[]) FROM PUBLIC;

-- Name: FUNCTION refuse(p_code text, p_message text, p_tasks bigint[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.refuse(p_code text, p_message text, p_tasks bigint[]) FROM PUBLIC;

-- Name: FUNCTION register_dispatcher(p_name text, p_lease_ms integer); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.register_dispatcher(p_name text, p_lease_ms integer) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.register_dispatcher(p_name text, p_lease_ms integer) TO taskomatic_client;

-- Name: FUNCTION release(p_task bigint, p_by text); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.release(p_task bigint, p_by text) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.release(p_task bigint, p_by text) TO taskomatic_client;

-- Name: FUNCTION resume_parents(p_parents bigint[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.resume_parents(p_parents bigint[]) FROM PUBLIC;

-- Name: FUNCTION retry(p_task bigint, p_by text, p_with_dependants boolean); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.retry(p_task bigint, p_by text, p_with_dependants boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.retry(p_task bigint, p_by text, p_with_dependants boolean) TO taskomatic_client;

-- Name: FUNCTION rewrite(p_rewrites jsonb, p_by text); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.rewrite(p_rewrites jsonb, p_by text) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.rewrite(p_rewrites jsonb, p_by text) TO taskomatic_client;

-- Name: FUNCTION room(p_key text); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.room(p_key text) FROM PUBLIC;

-- Name: FUNCTION set_cap(p_key text, p_cap integer); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.set_cap(p_key text, p_cap integer) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.set_cap(p_key text, p_cap integer) TO taskomatic_client;

-- Name: FUNCTION set_progress(p_task bigint, p_attempt integer, p_progress jsonb); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.set_progress(p_task bigint, p_attempt integer, p_progress jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.set_progress(p_task bigint, p_attempt integer, p_progress jsonb) TO taskomatic_client;

-- Name: FUNCTION set_undo_states(p_by bigint, p_attempt integer, p_tasks bigint[], p_states queue.undo_state[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.set_undo_states(p_by bigint, p_attempt integer, p_tasks bigint[], p_states queue.undo_state[]) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.set_undo_states(p_by bigint, p_attempt integer, p_tasks bigint[], p_states queue.undo_state[]) TO taskomatic_client;

-- Name: FUNCTION settle(p_dispatcher bigint, p_ends jsonb, p_take integer); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.settle(p_dispatcher bigint, p_ends jsonb, p_take integer) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.settle(p_dispatcher bigint, p_ends jsonb, p_take integer) TO taskomatic_client;

-- Name: FUNCTION settle_others(p_dispatcher bigint, p_ends jsonb, p_at timestamp with time zone); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.settle_others(p_dispatcher bigint, p_ends jsonb, p_at timestamp with time zone) FROM PUBLIC;

-- Name: FUNCTION stop_failing(); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.stop_failing() FROM PUBLIC;
GRANT ALL ON FUNCTION queue.stop_failing() TO taskomatic_client;

-- Name: FUNCTION submit(p_tasks jsonb, p_plan jsonb, p_by text, p_reason text, p_key text, p_fingerprint text); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.submit(p_tasks jsonb, p_plan jsonb, p_by text, p_reason text, p_key text, p_fingerprint text) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.submit(p_tasks jsonb, p_plan jsonb, p_by text, p_reason text, p_key text, p_fingerprint text) TO taskomatic_client;

-- Name: FUNCTION take_over(p_dispatcher bigint, p_limit integer, p_tasks bigint[], p_attempts integer[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.take_over(p_dispatcher bigint, p_limit integer, p_tasks bigint[], p_attempts integer[]) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.take_over(p_dispatcher bigint, p_limit integer, p_tasks bigint[], p_attempts integer[]) TO taskomatic_client;

-- Name: FUNCTION take_resources(p_names text[], p_exclusive boolean[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.take_resources(p_names text[], p_exclusive boolean[]) FROM PUBLIC;

-- Name: FUNCTION tell(p_submitted bigint[], p_started bigint[], p_ended bigint[], p_changed bigint[]); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.tell(p_submitted bigint[], p_started bigint[], p_ended bigint[], p_changed bigint[]) FROM PUBLIC;

-- Name: FUNCTION unpark(p_key text); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.unpark(p_key text) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.unpark(p_key text) TO taskomatic_client;

-- Name: FUNCTION unregister_dispatcher(p_dispatcher bigint); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.unregister_dispatcher(p_dispatcher bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION queue.unregister_dispatcher(p_dispatcher bigint) TO taskomatic_client;

-- Name: FUNCTION wake(); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.wake() FROM PUBLIC;

-- Name: FUNCTION way(p_from bigint[], p_to bigint); Type: ACL; Schema: queue

REVOKE ALL ON FUNCTION queue.way(p_from bigint[], p_to bigint) FROM PUBLIC;

-- Name: TABLE autostart; Type: ACL; Schema: inventory

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE inventory.autostart TO taskomatic_client;

-- Name: TABLE cleared; Type: ACL; Schema: inventory

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE inventory.cleared TO taskomatic_client;

-- Name: TABLE definition; Type: ACL; Schema: inventory

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE inventory.definition TO taskomatic_client;

-- Name: TABLE disk; Type: ACL; Schema: inventory

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE inventory.disk TO taskomatic_client;

-- Name: TABLE host_label; Type: ACL; Schema: inventory

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE inventory.host_label TO taskomatic_client;

-- Name: TABLE host_load; Type: ACL; Schema: inventory

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE inventory.host_load TO taskomatic_client;

-- Name: TABLE image; Type: ACL; Schema: inventory

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE inventory.image TO taskomatic_client;

-- Name: TABLE installation; Type: ACL; Schema: inventory

GRANT SELECT ON TABLE inventory.installation TO taskomatic_client;

-- Name: TABLE kept_snapshot; Type: ACL; Schema: inventory

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE inventory.kept_snapshot TO taskomatic_client;

-- Name: SEQUENCE mac; Type: ACL; Schema: inventory

GRANT USAGE ON SEQUENCE inventory.mac TO taskomatic_client;

-- Name: TABLE network; Type: ACL; Schema: inventory

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE inventory.network TO taskomatic_client;

-- Name: TABLE nic; Type: ACL; Schema: inventory

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE inventory.nic TO taskomatic_client;

-- Name: SEQUENCE sighting; Type: ACL; Schema: inventory

GRANT USAGE ON SEQUENCE inventory.sighting TO taskomatic_client;

-- Name: TABLE saved_image; Type: ACL; Schema: inventory

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE inventory.saved_image TO taskomatic_client;

-- Name: TABLE watch; Type: ACL; Schema: inventory

GRANT SELECT ON TABLE inventory.watch TO taskomatic_client;

-- Name: TABLE watcher; Type: ACL; Schema: inventory

GRANT SELECT ON TABLE inventory.watcher TO taskomatic_client;

-- Name: TABLE attempt; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.attempt TO taskomatic_client;

-- Name: TABLE audit; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.audit TO taskomatic_client;

-- Name: TABLE bound; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.bound TO taskomatic_client;

-- Name: TABLE cancel_request; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.cancel_request TO taskomatic_client;

-- Name: TABLE cap; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.cap TO taskomatic_client;

-- Name: TABLE claim; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.claim TO taskomatic_client;

-- Name: TABLE clock; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.clock TO taskomatic_client;

-- Name: TABLE cost; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.cost TO taskomatic_client;

-- Name: TABLE dispatcher; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.dispatcher TO taskomatic_client;

-- Name: TABLE effect; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.effect TO taskomatic_client;

-- Name: TABLE event; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.event TO taskomatic_client;

-- Name: TABLE family; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.family TO taskomatic_client;

-- Name: TABLE guard_find; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.guard_find TO taskomatic_client;

-- Name: TABLE held; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.held TO taskomatic_client;

-- Name: TABLE idempotency; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.idempotency TO taskomatic_client;

-- Name: TABLE limit_lock; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.limit_lock TO taskomatic_client;

-- Name: TABLE log; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.log TO taskomatic_client;

-- Name: TABLE parked; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.parked TO taskomatic_client;

-- Name: TABLE scheduled; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.scheduled TO taskomatic_client;

-- Name: TABLE open_state; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.open_state TO taskomatic_client;

-- Name: TABLE plan; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.plan TO taskomatic_client;

-- Name: TABLE prerequisite; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.prerequisite TO taskomatic_client;

-- Name: TABLE progress; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.progress TO taskomatic_client;

-- Name: TABLE resource; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.resource TO taskomatic_client;

-- Name: TABLE task; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.task TO taskomatic_client;

-- Name: TABLE runnable; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.runnable TO taskomatic_client;

-- Name: TABLE stale_report; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.stale_report TO taskomatic_client;

-- Name: TABLE task_000000; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.task_000000 TO taskomatic_client;

-- Name: TABLE task_000001; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.task_000001 TO taskomatic_client;

-- Name: TABLE task_000002; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.task_000002 TO taskomatic_client;

-- Name: TABLE task_state; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.task_state TO taskomatic_client;

-- Name: TABLE undo_step; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.undo_step TO taskomatic_client;

-- Name: TABLE verdict; Type: ACL; Schema: queue

GRANT SELECT ON TABLE queue.verdict TO taskomatic_client;

-- Name: DEFAULT PRIVILEGES FOR FUNCTIONS; Type: DEFAULT ACL; Schema: -

ALTER DEFAULT PRIVILEGES FOR ROLE taskomatic_owner REVOKE ALL ON FUNCTIONS  FROM PUBLIC;
