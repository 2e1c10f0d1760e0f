// Bytes that flow from a task to a client: each waits for the other, and hears when the other leaves.
import { Readable } from 'node:stream'
import { expect, test } from 'vitest'
import { Downloads } from '../../src/staging/downloads.ts'

async function* pieces(count: number, seen: { given: number } = { given: 0 }): AsyncGenerator<Buffer> {
  for (; seen.given < count; seen.given++) yield Buffer.from([seen.given])
}
const all = async (source: AsyncIterable<Uint8Array>) => {
  const chunks: Uint8Array[] = []
  for await (const chunk of source) chunks.push(chunk)
  return Buffer.concat(chunks)
}
const soon = { timeoutMs: 5_000 }

test.each(['giver', 'taker'])('the bytes arrive when the %s comes first', async (first) => {
  const downloads = new Downloads()
  const take = async () => all(await downloads.take('a', soon))
  const [, bytes] =
    first === 'giver'
      ? await Promise.all([downloads.give('a', pieces(3), soon), take()])
      : (await Promise.all([take(), downloads.give('a', pieces(3), soon)])).toReversed()
  expect(bytes).toEqual(Buffer.from([0, 1, 2]))
})

test('no more is asked of the giver than is taken', async () => {
  const downloads = new Downloads()
  const seen = { given: 0 }
  const given = downloads.give('a', pieces(100, seen), soon)
  const source = (await downloads.take('a', soon))[Symbol.asyncIterator]()
  await source.next()
  await source.next()
  expect(seen.given).toBeLessThanOrEqual(2)
  await source.return?.()
  await expect(given).rejects.toMatchObject({ code: 'nobody_there' })
})

test('who leaves before the first byte is noticed as well', async () => {
  const downloads = new Downloads()
  const given = downloads.give('a', pieces(3), soon)
  const stream = Readable.from(await downloads.take('a', soon))
  stream.destroy()
  await expect(given).rejects.toMatchObject({ code: 'nobody_there' })
})

test('nobody waits for ever, nor after a stop', async () => {
  const downloads = new Downloads()
  const nobody = { code: 'nobody_there' }
  await expect(downloads.give('a', pieces(1), { timeoutMs: 1 })).rejects.toMatchObject(nobody)
  await expect(downloads.take('a', { timeoutMs: 1 })).rejects.toMatchObject(nobody)
  const stop = new AbortController()
  const taken = downloads.take('b', { ...soon, signal: stop.signal })
  const given = downloads.give('c', pieces(1), { ...soon, signal: stop.signal })
  stop.abort()
  await expect(taken).rejects.toMatchObject(nobody)
  await expect(given).rejects.toMatchObject(nobody)
})

test('an error of the giver reaches both', async () => {
  const downloads = new Downloads()
  const broken = (async function* () {
    yield Buffer.from([1])
    throw new Error('the host is gone')
  })()
  const given = downloads.give('a', broken, soon)
  const taken = all(await downloads.take('a', soon))
  await expect(taken).rejects.toThrow('the host is gone')
  await expect(given).rejects.toThrow('the host is gone')
})
