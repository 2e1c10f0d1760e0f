// The host that a task is bound to as it starts: named by the action, or found by placement, which reserves the room.
import type { Action } from '../actions/action.ts'
import type { JsonObject } from '../db/json.ts'
import type { Tx } from '../db/open.ts'
import { placeVm } from '../inventory/place.ts'
import type { ClaimedTask } from '../queue/dispatch.ts'

type BindTo = ReturnType<NonNullable<Action['bindTo']>>

export type Choice =
  | { outcome: 'chosen'; host: string | null; bound: JsonObject | null }
  | { outcome: 'nowhere'; reason: string; key: string }

export async function chooseHost(tx: Tx, task: ClaimedTask, to: BindTo): Promise<Choice> {
  if (to === null) return { outcome: 'chosen', host: null, bound: null }
  if ('host' in to) return { outcome: 'chosen', host: to.host, bound: { host: to.host } }
  const placed = await placeVm(tx, { task: task.id, ...to.place })
  if (placed.host === null) return { outcome: 'nowhere', reason: placed.reason, key: 'placement' }
  return { outcome: 'chosen', host: placed.host, bound: { host: placed.host, considered: placed.considered } }
}
