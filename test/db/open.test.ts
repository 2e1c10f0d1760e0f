// Values, transactions, notifications and errors as they cross from PostgreSQL.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import pg from 'pg'
import { DatabaseError } from '../../src/db/error.ts'
import type { Notice } from '../../src/db/listen.ts'
import { openDatabase } from '../../src/db/open.ts'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'

let fresh: FreshDatabase
beforeAll(async () => {
  fresh = await freshDatabase()
})
afterAll(() => fresh.drop())

const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'none',
    (error: unknown) => (error instanceof DatabaseError ? error.code : error)
  )

describe('values', () => {
  test('a bigint is a number, a timestamp a Date, jsonb a value', async () => {
    const [row] = await fresh.database.query<Record<string, unknown>>(
      `select 9007199254740991::bigint n, '{1,null,3}'::bigint[] list, '{}'::bigint[] empty,
              timestamptz '2025-01-02 03:04:05Z' at, '{"a": [1]}'::jsonb value`
    )
    expect(row).toEqual({
      n: 9007199254740991,
      list: [1, null, 3],
      empty: [],
      at: new Date('2025-01-02T03:04:05Z'),
      value: { a: [1] }
    })
  })

  test('a bigint beyond the safe integers is refused, not rounded', async () => {
    expect(await codeOf(fresh.database.query('select 9007199254740993::bigint n'))).toBe('unsafe_integer')
    expect(await fresh.database.query('select 1 as n')).toEqual([{ n: 1 }])
  })
})

describe('transactions', () => {
  test('what a failed transaction did is gone, and its error passes unchanged', async () => {
    const mine = new TypeError('mine')
    const failing = fresh.database.transaction(async (tx) => {
      await tx.query('create temporary table gone (n int)')
      throw mine
    })
    await expect(failing).rejects.toBe(mine)
    expect(await fresh.database.query(`select to_regclass('pg_temp.gone') as table`)).toEqual([{ table: null }])
  })

  test('a swallowed error does not let the commit pass as a success', async () => {
    const swallowing = fresh.database.transaction(async (tx) => {
      await tx.query('select 1/0').catch(() => undefined)
      return 'done'
    })
    expect(await codeOf(swallowing)).toBe('invalid')
  })

  test('a transaction cannot be used after its end', async () => {
    const leaked = await fresh.database.transaction(async (tx) => tx)
    expect(await codeOf(leaked.query('select 1'))).toBe('stopped')
  })

  test('a connection lost before the commit is told apart from one lost in a statement of its own', async () => {
    const kill = async (pid: number) => {
      const admin = new pg.Client({ connectionString: fresh.ownerUrl.replace(/&options.*/, '') })
      await admin.connect()
      await admin.query('select pg_terminate_backend($1, 5000)', [pid])
      await admin.end()
    }
    const inside = fresh.database.transaction(async (tx) => {
      const [me] = await tx.query<{ pid: number }>('select pg_backend_pid() as pid')
      await kill(me?.pid ?? 0)
      await tx.query('select 1')
    })
    expect(await codeOf(inside)).toBe('unavailable')
    expect(await fresh.database.query('select 1 as n')).toEqual([{ n: 1 }])
  })
})

describe('errors', () => {
  test('carry a closed code, the SQLSTATE and the cause', async () => {
    const error = await fresh.database.query('select 1/0').catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'invalid', sqlState: '22012' })
    expect((error as Error).cause).toBeInstanceOf(pg.DatabaseError)
  })

  test('no server is unavailable; a stopped database is stopped', async () => {
    const nowhere = openDatabase({ url: 'postgresql://nobody@localhost/none?host=/nonexistent' })
    expect(await codeOf(nowhere.query('select 1'))).toBe('unavailable')
    await nowhere.stop()
    await nowhere.stop()
    expect(await codeOf(nowhere.query('select 1'))).toBe('stopped')
  })
})

describe('listening', () => {
  test('messages arrive, and after a broken connection a gap is told', async () => {
    const heard: Notice[] = []
    let wake: () => void = () => undefined
    const next = () => new Promise<void>((resolve) => (wake = resolve))
    const listening = await fresh.database.listen('news', (notice) => {
      heard.push(notice)
      wake()
    })
    let arrived = next()
    await fresh.database.query(`select pg_notify('news', 'one')`)
    await arrived
    expect(heard).toEqual([{ kind: 'message', payload: 'one' }])

    arrived = next()
    await fresh.database.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like 'listen%'`
    )
    await arrived
    expect(heard.at(-1)).toEqual({ kind: 'gap' })

    arrived = next()
    await fresh.database.query(`select pg_notify('news', 'two')`)
    await arrived
    expect(heard.at(-1)).toEqual({ kind: 'message', payload: 'two' })
    await listening.stop()
    await listening.stop()
  })
})
