// The proxy loses just what it is told to: a statement before the server has it, or the answer to one that was done.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openDatabase, type Database } from '../../src/db/open.ts'
import { freshDatabase, type FreshDatabase } from '../support/postgres.ts'
import { DatabaseProxy, type StatementFault } from './database-proxy.ts'

let fresh: FreshDatabase
let proxy: DatabaseProxy
let database: Database
beforeAll(async () => {
  fresh = await freshDatabase()
  proxy = await DatabaseProxy.start(fresh.serverUrl)
  database = openDatabase({ url: proxy.url, poolSize: 3 })
})
afterAll(async () => {
  await database.stop()
  await proxy.stop()
  await fresh.drop()
})

const register = 'select queue.register_dispatcher($1, $2) as id'
const registered = async (name: string) =>
  (await fresh.database.query('select from queue.dispatcher where name = $1', [name])).length
const once = (words: RegExp, fault: StatementFault) => {
  proxy.decide = (text) => {
    if (!words.test(text)) return undefined
    proxy.decide = () => undefined
    return fault
  }
}

test('a statement that the server never got has not happened, one whose answer is lost has', async () => {
  once(/register_dispatcher/, { kind: 'before' })
  await expect(database.query(register, ['a', 1000])).rejects.toMatchObject({ code: 'outcome_unknown' })
  expect(await registered('a')).toBe(0)
  once(/register_dispatcher/, { kind: 'after' })
  await expect(database.query(register, ['b', 1000])).rejects.toMatchObject({ code: 'outcome_unknown' })
  expect(await registered('b')).toBe(1)
  await database.query(register, ['c', 1000])
  expect(await registered('c')).toBe(1)
})

test('a transaction is lost at each of its statements, and only a commit that was sent may have happened', async () => {
  const lost = async (words: RegExp, kind: 'before' | 'after', name: string) => {
    once(words, { kind })
    const transaction = database.transaction((tx) => tx.query(register, [name, 1000]))
    return transaction.then(
      () => 'done',
      (error: unknown) => (error as { code: string }).code
    )
  }
  expect(await lost(/^begin/, 'before', 't1')).toBe('unavailable')
  expect(await lost(/register_dispatcher/, 'before', 't2')).toBe('unavailable')
  expect(await lost(/register_dispatcher/, 'after', 't3')).toBe('unavailable')
  expect(await lost(/^commit$/, 'before', 't4')).toBe('outcome_unknown')
  expect(await lost(/^commit$/, 'after', 't5')).toBe('outcome_unknown')
  for (const name of ['t1', 't2', 't3', 't4']) expect(await registered(name), name).toBe(0)
  expect(await registered('t5')).toBe(1)
})
