// The hosts that a task is bound to as it starts: named by the action, or found by placement. Room that it needs there is promised
// in the transaction that binds it, so that nothing starts where there is none.
import type { Binding, PlacementNeed } from '../actions/action.ts'
import type { JsonObject } from '../db/json.ts'
import type { Tx } from '../db/open.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { placeVm, reserveOn } from '../inventory/place.ts'
import { resource } from '../model/resource.ts'
import type { ClaimedTask } from '../queue/dispatch.ts'
import { exclusivelyClaimed } from '../queue/exclusive.ts'

/** Where a task is bound: the host that it runs on and, of what moves a VM, the host that it brings it to. */
export type Place = { host: string | null; target: string | null }

export const nowhere: Place = { host: null, target: null }

export type Choice =
  | { outcome: 'chosen'; place: Place; bound: JsonObject | null }
  /** Parked under `key`; `about` says which hosts were looked at. */
  | { outcome: 'no_room'; reason: string; key: string; about: JsonObject }

/**
 * Where an earlier attempt was bound and so may have left something: the task stays there. What was only promised to an attempt that
 * did not start binds nobody.
 */
export function boundPlace(task: ClaimedTask): Place {
  const text = (value: unknown) => (typeof value === 'string' ? value : null)
  if (!task.bound || task.bound['tentative'] === true) return nowhere
  return { host: text(task.bound['host']), target: text(task.bound['target']) }
}

/** Of an attempt that waited for units there, and did not start: the next one goes there, if it still can. */
function promisedHost({ bound }: ClaimedTask): string | null {
  const host = bound?.['tentative'] === true ? (bound['target'] ?? bound['host']) : null
  return typeof host === 'string' ? host : null
}

/** @param ask asks the action further, of observed facts */
export async function chooseHost(
  tx: Tx,
  task: ClaimedTask,
  to: Binding | null,
  ask: <T>(question: (state: FleetState) => T) => Promise<T>
): Promise<Choice> {
  if (to === null) return { outcome: 'chosen', place: nowhere, bound: null }
  const before = boundPlace(task)
  if ('place' in to) {
    if (before.host === null) return placed(tx, task, to.place, atHost)
    return named(tx, task, { host: before.host, target: null }, before.host, to.place)
  }
  const { host, target, room, elsewhere } = to
  if (typeof target === 'object') {
    if (before.target === null) return placed(tx, task, target, (found) => ({ host, target: found }))
    return named(tx, task, { host, target: before.target }, before.target, target)
  }
  if (!room) return chosen(task, { host, target: target ?? null })
  if (!elsewhere) return named(tx, task, { host, target: target ?? null }, target ?? host, room)
  const kept = before.host ?? host
  const promised = promisedHost(task)
  if (promised !== null && promised !== kept && before.host === null) {
    const need = await ask(elsewhere)
    if (need) return placed(tx, task, need, atHost)
  }
  const here = await named(tx, task, atHost(kept), kept, room)
  if (here.outcome === 'chosen' || before.host !== null) return here
  const need = await ask(elsewhere)
  return need === null ? here : placed(tx, task, { ...need, prefer: host }, atHost)
}

const atHost = (host: string) => ({ host, target: null })

const chosen = (task: ClaimedTask, { host, target }: Place, now?: JsonObject): Choice => ({
  outcome: 'chosen',
  place: { host, target },
  bound: boundTo(task, { host, target }, now)
})

/** What is kept with the task. What an earlier attempt considered stays: it tells why the task is where it is. */
export function boundTo(task: ClaimedTask, { host, target }: Place, now?: JsonObject): JsonObject {
  const considered = now ?? task.bound?.['considered']
  return { host, ...(target === null ? {} : { target }), ...(considered === undefined ? {} : { considered }) }
}

async function named(
  tx: Tx,
  task: ClaimedTask,
  place: Place,
  on: string,
  { vm, memoryMiB }: { vm: string; memoryMiB: number }
): Promise<Choice> {
  const answer = await reserveOn(tx, { task: task.id, host: on, vm, memoryMiB })
  if (answer.reserved) return chosen(task, place, task.bound?.['host'] === on ? undefined : answer.considered)
  const { reason, considered } = answer
  return { outcome: 'no_room', reason, key: roomKey(on), about: { ...task.bound, considered } }
}

async function placed(
  tx: Tx,
  task: ClaimedTask,
  need: PlacementNeed,
  at: (host: string) => { host: string; target: string | null }
): Promise<Choice> {
  const { without = {}, ...rest } = need
  const leaving = await exclusivelyClaimed(tx, resource.host(''))
  const excluded = new Map(Object.entries(without))
  for (const { name, task: other, title } of leaving)
    if (other !== task.id) excluded.set(name, `task ${other} has claimed it (${title})`)
  const promised = promisedHost(task)
  const prefer = promised ?? need.prefer
  const answer = await placeVm(tx, { task: task.id, ...rest, without: excluded, ...(prefer ? { prefer } : {}) })
  if (answer.host !== null)
    return chosen(task, at(answer.host), answer.host === promised ? undefined : answer.considered)
  // Only one host will do: nothing is gained by looking again when another has room.
  const key = need.pinned !== undefined && need.prefer !== undefined ? roomKey(need.prefer) : anyRoom
  return { outcome: 'no_room', reason: answer.reason, key, about: { considered: answer.considered } }
}

/** What is parked for room anywhere. */
export const anyRoom = 'placement'
/** What is parked for room on this host. */
export const roomKey = (host: string): string => `room/${host}`
