// Batches: what is asked for while one is under way goes along with the next, and one that is at fault spoils it for nobody else.
import { expect, test } from 'vitest'
import { gather } from '../../src/dispatcher/gather.ts'

test('what is asked for in one turn is one batch, and each gets its own answer', async () => {
  const batches: number[][] = []
  const twice = gather(async (items: number[]) => {
    batches.push(items)
    return items.map((item) => item * 2)
  })
  expect(await Promise.all([1, 2, 3].map(twice))).toEqual([2, 4, 6])
  expect(batches).toEqual([[1, 2, 3]])
})

test('what is asked for meanwhile waits for the next batch, of which none is larger than allowed', async () => {
  const batches: number[][] = []
  const { promise: held, resolve: release } = Promise.withResolvers<void>()
  const same = gather(
    async (items: number[]) => {
      batches.push(items)
      if (batches.length === 1) await held
      return items
    },
    { most: 2, everyMs: 0 }
  )
  const first = same(1)
  await new Promise(setImmediate)
  const rest = [2, 3, 4].map(same)
  await new Promise(setImmediate)
  expect(batches).toEqual([[1]])
  release()
  expect(await Promise.all([first, ...rest])).toEqual([1, 2, 3, 4])
  expect(batches).toEqual([[1], [2, 3], [4]])
})

test('one that is at fault fails alone', async () => {
  const odd = gather(async (items: number[]) => {
    if (items.includes(2)) throw new Error('two')
    return items
  })
  const answers = await Promise.allSettled([1, 2, 3].map(odd))
  expect(answers.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
})
