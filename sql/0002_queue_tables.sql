-- The queue's tables. A task's row is written when it is submitted and once more by its end; where an open task stands is told by
-- small tables: it has exactly one row in wait, ready or run. What a client sees as its state is derived (0003).
--
-- Lock order, everywhere: the dispatcher's lease, the expansion lock, resources by name, tasks by id, wait by id, family, limits, ready.

create type queue.state as enum (
  'held', 'waiting', 'scheduled', 'parked', 'ready',
  'running', 'awaiting', 'cancelling', 'uncertain',
  'complete', 'failed', 'cancelled'
);
create type queue.needs as enum ('complete', 'ended');
create type queue.undo_state as enum ('none', 'undone', 'partly_undone', 'impossible', 'needs_operator');
create type queue.on_failure as enum ('stop', 'continue', 'rollback');

-- Ids of tasks, and the positions that roots take later than at their submission.
create sequence queue.position;

create table queue.plan (
  id bigint primary key default nextval('queue.position'),
  name text,
  on_failure queue.on_failure not null,
  created_by text not null,
  reason text,
  created_at timestamptz not null,
  tasks integer not null
);

create table queue.task (
  id bigint not null,
  action text not null,
  title text not null,
  args jsonb not null,
  claims jsonb not null,  -- as submitted; the rows in queue.claim die with the task
  effects jsonb not null,
  limits jsonb,
  undo jsonb,
  plan bigint,
  parent bigint,
  path bigint[],          -- of a child: its outermost ancestor's position, then an id a level; of a root: null, see claim.position
  priority smallint not null,
  not_before timestamptz,
  binds boolean not null,
  created_by text not null,
  reason text,
  created_at timestamptz not null,
  -- Written by the end.
  outcome queue.state,
  result jsonb,
  error jsonb,
  attempts integer not null default 0,
  started_at timestamptz,
  ended_at timestamptz,
  undo_state queue.undo_state not null default 'none',
  constraint task_ended_iff_outcome check ((outcome is null) = (ended_at is null)),
  constraint task_outcome_is_an_end check (outcome in ('complete', 'failed', 'cancelled')),
  constraint task_has_error_iff_ended_badly check ((error is not null) = (outcome is not null and outcome <> 'complete')),
  constraint task_child_has_path check ((parent is null) = (path is null)),
  constraint task_priority_in_range check (priority between -100 and 100),
  primary key (id)
) partition by range (id);

-- Neither column is ever updated, so that ends stay heap-only updates.
create index task_children on queue.task (parent) where parent is not null;
create index task_of_plan on queue.task (plan) where plan is not null;

create table queue.prerequisite (
  task bigint not null,
  prerequisite bigint not null,
  needs queue.needs not null,
  derived boolean not null, -- from claims; false = asked for, or the task was accepted on the strength of what the other brings about
  primary key (task, prerequisite),
  constraint prerequisite_is_another_task check (task <> prerequisite)
);
create index prerequisite_dependants on queue.prerequisite (prerequisite);

create table queue.resource (
  id integer primary key generated always as identity,
  name text collate "C" not null unique
);

create table queue.claim (
  task bigint not null,
  resource integer not null,
  position bigint,                    -- in the line, by position; null while the task has none (scheduled, held)
  exclusive boolean not null,
  own boolean not null default false, -- not in the line: every conflicting pair has an edge of its own (children, late claims)
  primary key (task, resource)
);
create index claim_line on queue.claim (resource, position);
create index claim_exclusive on queue.claim (resource, position) where exclusive and not own;
create index claim_own on queue.claim (resource) where own;

-- What will hold of a subject once the open task is complete; the facts are in task.effects at this place.
create table queue.effect (
  task bigint not null,
  ordinal integer not null,
  subject text not null,
  primary key (task, ordinal)
);
create index effect_subject on queue.effect (subject);

create table queue.wait (
  task bigint primary key,
  unmet integer not null,             -- prerequisites that have not ended as needed
  barred smallint not null default 0, -- rows of it in held, scheduled, parked
  behind integer not null default 0,  -- prerequisites that have no position
  attempts integer not null default 0,
  started boolean not null default false,
  limited boolean not null default false,
  priority smallint not null,
  position bigint,
  doomed_by bigint,                   -- a prerequisite that ended badly; a transaction of its own ends this one (0006)
  constraint wait_counts_are_not_negative check (unmet >= 0 and barred >= 0 and behind >= 0)
) with (fillfactor = 70);
create index wait_placeable on queue.wait (task) where position is null and barred = 0 and behind = 0;
create index wait_doomed on queue.wait (task) where doomed_by is not null;

create table queue.ready (
  task bigint primary key,
  rank smallint not null, -- minus priority
  position bigint not null,
  attempts integer not null,
  started boolean not null,
  since timestamptz not null
);
create index ready_order on queue.ready (rank, position, task);

create table queue.run (
  task bigint primary key,
  attempt integer not null,
  dispatcher bigint,                  -- null: awaiting its children
  started boolean not null,           -- false until its late claims are bound
  phase queue.state not null default 'running',
  started_at timestamptz not null,
  deadline timestamptz,
  awaiting text,
  evidence jsonb,
  error jsonb,
  priority smallint not null,
  position bigint not null,
  constraint run_phase_is_in_progress check (phase in ('running', 'awaiting', 'uncertain')),
  constraint run_awaiting_has_deadline_or_children check (phase <> 'awaiting' or deadline is not null or dispatcher is null)
);

create table queue.family (parent bigint primary key, open integer not null check (open >= 0));
create table queue.held (task bigint primary key, reason text not null, held_by text not null, since timestamptz not null);
create table queue.scheduled (task bigint primary key, due timestamptz not null);
create index scheduled_due on queue.scheduled (due);
create table queue.parked (task bigint primary key, key text not null, reason text not null, since timestamptz not null);
create index parked_key on queue.parked (key);
create table queue.cancel_request (task bigint primary key, asked_by text not null, reason text, at timestamptz not null);

-- Attempts that did not end their task; the last one's times and error are on the task.
create table queue.attempt (
  task bigint not null,
  attempt integer not null,
  dispatcher bigint,
  started_at timestamptz not null,
  ended_at timestamptz not null,
  outcome text not null,
  error jsonb,
  primary key (task, attempt),
  constraint attempt_outcome_is_known check (outcome in ('retry', 'parked', 'waiting', 'expanded', 'lost', 'failed', 'cancelled'))
);

create table queue.bound (task bigint primary key, attempt integer not null, bound jsonb, claims jsonb not null, at timestamptz not null);
-- How what a task does would be undone, written before it is done (0012).
create table queue.undo_step (
  task bigint primary key,
  attempt integer not null,
  step jsonb not null,      -- as the submitting layer understands it
  at timestamptz not null
);
create table queue.progress (task bigint primary key, attempt integer not null, progress jsonb not null, at timestamptz not null)
  with (fillfactor = 50);
create table queue.log (
  id bigint primary key generated always as identity,
  task bigint not null,
  attempt integer,
  at timestamptz not null,
  level text not null check (level in ('debug', 'info', 'warn', 'error')),
  message text not null,
  data jsonb
);
create index log_of_task on queue.log (task, id);

create table queue.dispatcher (
  id bigint primary key generated always as identity,
  name text not null,
  lease_ms integer not null check (lease_ms > 0),
  registered_at timestamptz not null,
  expires_at timestamptz not null
) with (fillfactor = 50);

-- Reports of attempts that are no longer the task's: refused, counted here, and kept to be looked at.
create table queue.stale_report (
  id bigint primary key generated always as identity,
  at timestamptz not null,
  dispatcher bigint not null,
  task bigint not null,
  attempt integer not null,
  said text not null
);

-- One row a transaction, named by its transaction id. Read below the oldest transaction that is still open (notify.ts): only
-- then can no smaller id appear any more.
create table queue.event (
  id bigint primary key,
  at timestamptz not null,
  submitted bigint[] not null,
  started bigint[] not null,
  ended bigint[] not null,
  changed bigint[] not null
);

create table queue.idempotency (
  key text primary key,
  fingerprint text not null,
  plan bigint,
  tasks bigint[] not null,
  at timestamptz not null
);

-- Limits: what an open task needs of a key, what it has been granted, how much there is.
create table queue.cap (key text primary key, cap integer not null check (cap >= 0));
create table queue.cost (
  task bigint not null,
  key text not null,
  units integer not null check (units > 0),
  granted boolean not null default false,
  queued boolean not null default false,
  rank smallint not null,
  position bigint,
  primary key (task, key)
);
create index cost_granted on queue.cost (key) include (units) where granted;
create index cost_queued on queue.cost (key, rank, position, task) where queued;
create table queue.limit_lock (one boolean primary key default true check (one));
insert into queue.limit_lock default values;

-- Where the slices of the audit have got to.
create table queue.audit (one boolean primary key default true check (one), next_task bigint not null default 0);
insert into queue.audit default values;

-- Time comes from the database alone. Tests put it ahead.
create table queue.clock (ahead interval not null);
create function queue.now() returns timestamptz language sql volatile as $$
  select clock_timestamp() + coalesce((select ahead from queue.clock), interval '0')
$$;

-- Partitions of a million ids, dropped whole when everything in them is old. Half-empty pages leave room for each row's end.
create function queue.add_partitions(p_ahead bigint default 2000000) returns integer
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
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
select queue.add_partitions();

grant select on all tables in schema queue to taskomatic_client;
