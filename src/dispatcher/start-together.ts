// What tasks need before they run, had for many of them at once: their facts, room on their hosts, their claims. Only the plain case is
// here, in which nothing keeps a task from starting where it is to run; whoever does not fit it goes through it alone (prepare.ts).
import type { Action, Binding as Where } from '../actions/action.ts'
import { mergeClaims } from '../actions/evaluate.ts'
import type { JsonObject } from '../db/json.ts'
import type { Database } from '../db/open.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { loadFacts } from '../inventory/load.ts'
import { giveBack, reserveMany } from '../inventory/place.ts'
import { bindMany, type Binding } from '../queue/bind.ts'
import type { ClaimedTask } from '../queue/dispatch.ts'
import { ensureResources } from '../queue/submit.ts'
import { inverseStep, type UndoStep } from '../actions/rollback.ts'
import { boundPlace, boundTo, type Place } from './choose-host.ts'
import { gather } from './gather.ts'

export type LoadFacts = (subjects: readonly string[]) => Promise<Map<string, JsonObject | null>>

export type Together = {
  load: LoadFacts
  /** Whether it started; false: it is to be asked for alone, and nothing was done. */
  start(request: StartRequest): Promise<boolean>
}

type StartRequest = {
  task: ClaimedTask
  place: Place
  room: { host: string; vm: string; memoryMiB: number } | undefined
  binding: Omit<Binding, 'bound'>
}

/** Names that were made claimable: they stay so. */
const mostKnown = 100_000

export function createTogether(database: Database, dispatcher: number): Together {
  let known = new Set<string>()
  const load = gather(
    async (asked: (readonly string[])[]) => {
      const facts = await loadFacts(database, new Set(asked.flat()))
      return asked.map((subjects) => new Map(subjects.map((subject) => [subject, facts.get(subject) ?? null])))
    },
    { atOnce: 2 }
  )

  async function ensure(requests: readonly StartRequest[]): Promise<void> {
    const names = new Set(requests.flatMap(({ binding }) => binding.claims.map(({ resource }) => resource)))
    const unknown = [...names].filter((name) => !known.has(name))
    if (unknown.length === 0) return
    await ensureResources(database, unknown)
    if (known.size > mostKnown) known = new Set()
    for (const name of unknown) known.add(name)
  }

  const start = gather(
    async (requests: StartRequest[]) => {
      await ensure(requests)
      return database.transaction(async (tx) => {
        const wanted = requests.flatMap(({ task, room }) => (room ? [{ task: task.id, ...room }] : []))
        const considered = wanted.length === 0 ? new Map<number, JsonObject>() : await reserveMany(tx, wanted)
        const roomy = requests.filter(({ task, room }) => !room || considered.has(task.id))
        if (roomy.length === 0) return requests.map(() => false)
        const bindings = roomy.map(({ task, place, room, binding }) => {
          // What an earlier attempt considered stays, where it is the same host.
          const now = task.bound?.['host'] === room?.host ? undefined : considered.get(task.id)
          return { ...binding, bound: place.host === null ? null : boundTo(task, place, now) }
        })
        const answers = await bindMany(tx, { dispatcher, bindings })
        const alone = wanted.filter(({ task }) => considered.has(task) && answers.get(task) !== 'started')
        if (alone.length > 0)
          await giveBack(
            tx,
            alone.map(({ task }) => task)
          )
        return requests.map(({ task }) => answers.get(task.id) === 'started')
      })
    },
    { atOnce: 2 }
  )
  return { load, start }
}

/** Where it is plain that a task runs; undefined where that has to be found out, or there is more to promise than memory. */
export function plainPlace(
  task: ClaimedTask,
  action: Action,
  to: Where | null
): { place: Place; room: StartRequest['room'] } | undefined {
  // One that was promised a place by an earlier attempt (`tentative`) goes there, if it still can.
  if (action.makesVolumes || task.takenOver || task.bound?.['tentative'] === true) return undefined
  if (to === null) return { place: { host: null, target: null }, room: undefined }
  if ('place' in to || typeof to.target === 'object') return undefined
  const { host, target = null, room } = to
  const before = boundPlace(task).host
  if (before !== null && before !== host) return undefined
  return { place: { host, target }, room: room && { host: target ?? host, ...room } }
}

/** All that a plain start asks of the action, of the same facts; undefined where the answer is not plain. */
export function plainStart(
  { id, attempt, args, plan }: ClaimedTask,
  action: Action,
  state: FleetState
): { binding: Omit<Binding, 'bound'>; nothingToDo: string | undefined } | undefined {
  const claims = mergeClaims(action.claims(args, state))
  const limits = action.limits?.(args, state)
  const verdict = action.check(args, state)
  if (verdict.verdict === 'impossible') return undefined
  const nothingToDo = verdict.verdict === 'nothing_to_do' ? verdict.why : undefined
  const undo = plan === null || !action.undo ? undefined : undoStep(action, args, state, nothingToDo)
  const binding = { task: id, attempt, claims, ...(limits ? { limits } : {}), ...(undo ? { undo } : {}) }
  return { binding, nothingToDo }
}

/** Parts of plans may have to be undone: how, is written before anything is done. */
export const undoStep = (
  action: Action,
  args: JsonObject,
  state: FleetState,
  nothingToDo: string | undefined
): UndoStep => (nothingToDo === undefined ? inverseStep(action, args, state) : { nothing: nothingToDo })
