// Statements that are lost by chance, as a seed has it: with TASKOMATIC_TEST_FAULTS=SEED the engines of all tests work under them.
import { Dice } from '../queue/dice.ts'
import { DatabaseProxy } from './database-proxy.ts'

/** Of each statement; one of three is lost before PostgreSQL has it, one after, and one is late. */
const chance = 0.01
const lateMs = 50

/** Nothing is lost before `begin`: an engine that cannot start says so and ends. */
export async function seededFaults(url: string, seed: number) {
  const proxy = await DatabaseProxy.start(url)
  const dice = new Dice(seed)
  return {
    url: proxy.url,
    begin() {
      proxy.decide = () => {
        if (!dice.chance(chance)) return undefined
        return dice.pick([{ kind: 'before' }, { kind: 'after' }, { kind: 'delay', ms: lateMs }] as const)
      }
    },
    stop: () => proxy.stop()
  }
}
