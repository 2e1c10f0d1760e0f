// Nobody inserts behind the queue's back: to the server's login, PostgreSQL itself refuses to write the queue's tables, to change
// the schema, and to call what only the queue's own functions may call.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { submitOne } from './support.ts'

let fresh: FreshDatabase
beforeAll(async () => {
  fresh = await freshDatabase()
  await submitOne(fresh.database, { claims: ['vm/1'] })
})
afterAll(() => fresh.drop())

const refused = { sqlState: '42501' }
const query = (text: string) => fresh.database.query(text)

const tables = async (): Promise<string[]> => {
  const rows = await fresh.database.query<{ name: string }>(
    `select relname as name from pg_class
     where relnamespace = 'queue'::regnamespace and relkind in ('r', 'p') order by relname`
  )
  return rows.map(({ name }) => name)
}

describe("the server's login", () => {
  test('may read every table of the queue that it needs, and write none', async () => {
    const names = await tables()
    expect(names).toEqual(expect.arrayContaining(['task', 'prerequisite', 'claim', 'wait', 'ready', 'run', 'plan']))
    for (const name of names) {
      await expect(query(`delete from queue.${name}`), `delete from ${name}`).rejects.toMatchObject(refused)
      await expect(query(`insert into queue.${name} default values`), `insert into ${name}`).rejects.toMatchObject(
        refused
      )
      await expect(query(`truncate queue.${name}`), `truncate ${name}`).rejects.toMatchObject(refused)
    }
  })

  test.each([
    `update queue.task set outcome = 'complete', ended_at = now()`,
    'update queue.claim set exclusive = false',
    `update queue.prerequisite set needs = 'ended'`,
    'update queue.wait set unmet = 0',
    'update queue.ready set rank = -100',
    'update queue.run set attempt = 2',
    `update queue.dispatcher set expires_at = 'infinity'`
  ])('is refused: %s', async (statement) => {
    await expect(query(statement)).rejects.toMatchObject(refused)
  })

  test.each([
    'create table queue.mine (id integer)',
    `create function queue.mine() returns integer language sql as 'select 1'`,
    'drop function queue.beat(bigint)',
    'alter table queue.task add column mine text',
    'create trigger mine before insert on queue.task for each row execute function queue.now()',
    'set role taskomatic_owner'
  ])('may not change the schema: %s', async (statement) => {
    await expect(query(statement)).rejects.toMatchObject({ code: expect.any(String) as string })
  })

  test('may call just the functions that check what they are asked, each with a search path of its own', async () => {
    const callable = await fresh.database.query<{ name: string; definer: boolean; path: boolean }>(
      `select p.proname as name, p.prosecdef as definer,
         coalesce(array_to_string(p.proconfig, ',') like '%search_path=pg_catalog, pg_temp%', false) as path
       from pg_proc p
       where p.pronamespace = 'queue'::regnamespace and has_function_privilege(p.oid, 'execute') order by 1`
    )
    const names = callable.map(({ name }) => name)
    expect(names).toEqual(expect.arrayContaining(['submit', 'settle', 'bind', 'expand', 'beat']))
    for (const inner of ['after_ends', 'make_ready', 'lock_tasks', 'line_edges', 'recount', 'tell'])
      expect(names).not.toContain(inner)
    // now() only reads the clock.
    const writers = callable.filter(({ name }) => name !== 'now')
    expect(writers.filter(({ definer, path }) => !definer || !path)).toEqual([])
  })
})
