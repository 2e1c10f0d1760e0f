// What can be asked of a queue, as plain values: the same list can be given to the model and to the real one.
import { bind, beat, settle, takeOver } from './dispatch.ts'
import { endDoomed, placeWaiting, type End } from './ends.ts'
import { expand } from './expand.ts'
import { setCap } from './limits.ts'
import { cancel, giveVerdict, hold, release, retry, unpark } from './requests.ts'
import { Refused, type Claims, type Limits, type Sketch, type State } from './state.ts'
import { submit, type Submission } from './submit.ts'

type Attempt = { dispatcher: number; task: number; attempt: number }

export type Operation =
  | { do: 'pass'; ms: number }
  | { do: 'register'; leaseMs: number }
  | { do: 'beat'; dispatcher: number }
  | { do: 'unregister'; dispatcher: number }
  | ({ do: 'submit' } & Submission)
  | { do: 'settle'; dispatcher: number; ends: readonly End[]; take: number }
  | { do: 'takeOver'; dispatcher: number; limit: number; holding: readonly { task: number; attempt: number }[] | null }
  | ({ do: 'bind'; claims: Claims; limits: Limits | null } & Attempt)
  | ({ do: 'expand'; children: readonly Sketch[] } & Attempt)
  | { do: 'hold' | 'release' | 'cancel'; task: number }
  | { do: 'retry'; task: number; withDependants: boolean }
  | { do: 'unpark'; key: string }
  | { do: 'verdict'; task: number; happened: boolean }
  | { do: 'setCap'; key: string; cap: number | null }
  | { do: 'endDoomed' | 'placeWaiting'; limit: number }

export type Answer = { value: unknown } | { refused: string }

/** Does it, whole or not at all. */
export function apply(state: State, operation: Operation): Answer {
  try {
    return { value: perform(state, operation) ?? null }
  } catch (error) {
    if (error instanceof Refused) return { refused: error.code }
    throw error
  }
}

function perform(state: State, operation: Operation): unknown {
  switch (operation.do) {
    case 'pass':
      return void (state.now += operation.ms)
    case 'register':
      return state.register(operation.leaseMs)
    case 'beat':
      return beat(state, operation.dispatcher)
    case 'unregister':
      return void state.dispatchers.delete(operation.dispatcher)
    case 'submit':
      return submit(state, operation)
    case 'settle':
      return settle(state, operation)
    case 'takeOver':
      return takeOver(state, operation)
    case 'bind':
      return bind(state, operation)
    case 'expand':
      return expand(state, operation)
    case 'hold':
      return hold(state, operation.task)
    case 'release':
      return release(state, operation.task)
    case 'cancel':
      return cancel(state, operation.task)
    case 'retry':
      return retry(state, operation.task, operation.withDependants)
    case 'unpark':
      return unpark(state, operation.key)
    case 'verdict':
      return giveVerdict(state, operation.task, operation.happened)
    case 'setCap':
      return setCap(state, operation.key, operation.cap)
    case 'endDoomed':
      return endDoomed(state, operation.limit)
    default:
      return placeWaiting(state, operation.limit)
  }
}
