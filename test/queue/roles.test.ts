// I7: nobody writes behind the queue's back. What the server's login may do is asked of PostgreSQL itself, for every table and
// function that the schema has: what is added later is held to it without a change here.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { DatabaseError } from '../../src/db/error.ts'
import { openDatabase } from '../../src/db/open.ts'
import type { Database } from '../../src/db/open.ts'
import { OWNER_ROLE, SERVER_ROLE } from '../../src/db/roles.ts'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { stateOf, submitOne } from './support.ts'

let fresh: FreshDatabase
let owner: Database
beforeAll(async () => {
  fresh = await freshDatabase({ poolSize: 1 })
  owner = openDatabase({ url: fresh.ownerUrl, poolSize: 1 })
})
afterAll(async () => {
  await owner.stop()
  await fresh.drop()
})

const INSUFFICIENT_PRIVILEGE = '42501'

/** SQLSTATE of what the server's login gets for a statement; undefined = it was let through. Nothing of it stays. */
async function answerTo(statement: string): Promise<string | undefined> {
  const undone = new Error('undone')
  try {
    await fresh.database.transaction(async (tx) => {
      await tx.query(statement)
      throw undone
    })
  } catch (error) {
    if (error instanceof DatabaseError) return error.sqlState
    if (error !== undone) throw error
  }
  return undefined
}

/** Those of `statements` that were not refused for want of a privilege, each with what PostgreSQL said instead. */
async function letThrough(statements: readonly string[]): Promise<string[]> {
  const found: string[] = []
  for (const statement of statements) {
    const answer = await answerTo(statement)
    if (answer !== INSUFFICIENT_PRIVILEGE) found.push(`${answer ?? 'done'}: ${statement}`)
  }
  return found
}

type Table = { name: string; column: string }

const tables = () =>
  fresh.database.query<Table>(
    `select format('queue.%I', c.relname) as name, (
       -- Of an identity column PostgreSQL says something else before it looks at privileges.
       select format('%I', attname) from pg_attribute
       where attrelid = c.oid and attnum > 0 and not attisdropped and attidentity = '' order by attnum limit 1) as column
     from pg_class c where c.relnamespace = 'queue'::regnamespace and c.relkind in ('r', 'p') order by 1`
  )

const writesTo = ({ name, column }: Table) => [
  `insert into ${name} default values`,
  `update ${name} set ${column} = ${column}`,
  `delete from ${name}`,
  `truncate ${name}`,
  `select from ${name} for update`,
  `select from ${name} for key share`,
  `lock table ${name} in exclusive mode`,
  `alter table ${name} add column more text`,
  `drop table ${name}`
]

describe("the server's login", () => {
  test('writes, locks and changes no table of the queue, whatever the table', async () => {
    const all = await tables()
    expect(all.map(({ name }) => name)).toEqual(
      expect.arrayContaining(
        ['task', 'task_000000', 'prerequisite', 'claim', 'wait', 'ready', 'run', 'plan', 'resource', 'dispatcher'].map(
          (name) => `queue.${name}`
        )
      )
    )
    expect(await letThrough(all.flatMap(writesTo))).toEqual([])
  })

  test('the test sees a table that may be written', async () => {
    await owner.query('grant insert, update on queue.wait to taskomatic_client')
    const [wait] = (await tables()).filter(({ name }) => name === 'queue.wait')
    const found = await letThrough(writesTo(wait!))
    await owner.query('revoke insert, update on queue.wait from taskomatic_client')
    expect(found.map((line) => line.replace(/ queue.*/, ''))).toEqual([
      '23502: insert into',
      'done: update',
      'done: select from',
      'done: select from',
      'done: lock table'
    ])
  })

  test('draws no ids', async () => {
    const sequences = await fresh.database.query<{ name: string }>(
      `select format('queue.%I', relname) as name from pg_class where relnamespace = 'queue'::regnamespace and relkind = 'S'`
    )
    expect(sequences.length).toBeGreaterThan(0)
    expect(
      await letThrough(sequences.flatMap(({ name }) => [`select nextval('${name}')`, `select setval('${name}', 1)`]))
    ).toEqual([])
  })

  test('makes, replaces and hands out nothing', async () => {
    expect(
      await letThrough([
        'create table queue.mine (id bigint)',
        'create view queue.mine as select 1',
        'create function queue.mine() returns integer language sql as $$ select 1 $$',
        'create type queue.mine as enum ()',
        'create schema mine',
        'create table public.task (id bigint)',
        'create or replace function queue.now() returns timestamptz language sql volatile as $$ select clock_timestamp() $$',
        `create or replace function queue.lease_holds(p_dispatcher bigint) returns boolean language sql as 'select true'`,
        'alter function queue.settle(bigint, jsonb, integer) security invoker',
        'drop function queue.settle(bigint, jsonb, integer)',
        'alter view queue.runnable owner to taskomatic_server',
        'create trigger mine before insert on queue.task for each row execute function suppress_redundant_updates_trigger()',
        'create rule mine as on insert to queue.wait do instead nothing',
        `set role ${OWNER_ROLE}`,
        `grant ${OWNER_ROLE} to ${SERVER_ROLE}`,
        `alter role ${SERVER_ROLE} createrole`,
        'set session_replication_role = replica'
      ])
    ).toEqual([])
  })

  test('is no more than a member of the clients; the owner cannot log in', async () => {
    const [login] = await fresh.database.query(
      `select rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolcanlogin,
         pg_has_role(oid, $2, 'member') as owns, pg_has_role(oid, 'taskomatic_client', 'usage') as client
       from pg_roles where rolname = $1`,
      [SERVER_ROLE, OWNER_ROLE]
    )
    expect(login).toEqual({
      rolsuper: false,
      rolcreaterole: false,
      rolcreatedb: false,
      rolreplication: false,
      rolbypassrls: false,
      rolcanlogin: true,
      owns: false,
      client: true
    })
    expect(await fresh.database.query('select rolcanlogin from pg_roles where rolname = $1', [OWNER_ROLE])).toEqual([
      { rolcanlogin: false }
    ])
  })
})

type Fn = { name: string; call: string; definer: boolean; path: string | null; allowed: boolean; everyone: boolean }

const functions = () =>
  fresh.database.query<Fn>(
    `select p.proname as name, p.prosecdef as definer, has_function_privilege(p.oid, 'execute') as allowed,
       (select c from unnest(p.proconfig) as c where c like 'search_path=%') as path,
       exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = 0) as everyone,
       format('select queue.%I(%s)', p.proname, (
         select string_agg('null::' || format_type(t, null), ', ' order by n)
         from unnest(p.proargtypes::oid[]) with ordinality as a(t, n))) as call
     from pg_proc p where p.pronamespace = 'queue'::regnamespace order by 1`
  )

const FIXED_PATH = 'search_path=pg_catalog, pg_temp'

describe('functions', () => {
  test('run with a search path that nobody can put something into, those with rights of their own all', async () => {
    const all = await functions()
    expect(all.filter(({ definer }) => definer).length).toBeGreaterThan(10)
    expect(all.filter(({ definer, path }) => definer && path !== FIXED_PATH)).toEqual([])
    // The clock is read with the caller's rights; in the queue's functions it runs under their path.
    expect(all.filter(({ path }) => path !== FIXED_PATH).map(({ name }) => name)).toEqual(['now'])
  })

  test('are open to the server only with rights of their own; the inner ones are refused, each of them', async () => {
    const all = await functions()
    expect(all.filter(({ everyone }) => everyone)).toEqual([])
    expect(all.filter(({ allowed, definer }) => allowed && !definer).map(({ name }) => name)).toEqual(['now'])
    const inner = all.filter(({ allowed }) => !allowed)
    expect(inner.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['after_ends', 'end_unstarted', 'lock_tasks', 'make_ready', 'recount', 'add_partitions'])
    )
    expect(await letThrough(inner.map(({ call }) => call))).toEqual([])
  })

  test('and everything else of the schema belong to the owner', async () => {
    const strangers = await fresh.database.query(
      `select relname as name from pg_class where relnamespace = 'queue'::regnamespace and relowner <> $1::regrole
       union all select proname from pg_proc where pronamespace = 'queue'::regnamespace and proowner <> $1::regrole
       union all select typname from pg_type where typnamespace = 'queue'::regnamespace and typowner <> $1::regrole
       union all select nspname from pg_namespace where nspname = 'queue' and nspowner <> $1::regrole`,
      [OWNER_ROLE]
    )
    expect(strangers).toEqual([])
  })

  test('do for the server what it may not do itself', async () => {
    const id = await submitOne(fresh.database, { claims: ['r'] })
    expect(await stateOf(fresh.database, id)).toBe('ready')
  })

  test('a temporary table, function or operator of the caller does not slip into them', async () => {
    const tasks = await fresh.database.transaction(async (tx) => {
      await tx.query('create temporary table task (like queue.task)')
      await tx.query('create temporary table resource (like queue.resource)')
      await tx.query(`create function pg_temp.jsonb_array_length(jsonb) returns integer language sql as 'select 0'`)
      await tx.query(`create function pg_temp.never(bigint, bigint) returns boolean language sql as 'select false'`)
      await tx.query('create operator pg_temp.= (leftarg = bigint, rightarg = bigint, function = pg_temp.never)')
      await tx.query('set local search_path = pg_temp, pg_catalog, public')
      const [row] = await tx.query<{ tasks: number[] }>(
        `select tasks from queue.submit('[{"action":"thing.do","title":"t","args":{},"claims":[],"effects":[],"binds":false}]', null, 'me', null, null, null)`
      )
      return row?.tasks
    })
    expect(await stateOf(fresh.database, tasks![0]!)).toBe('ready')
  })
})
