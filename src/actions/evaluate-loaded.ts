// A submission's elements checked against the registry, and asked of the fleet as the database knows it: observed facts, with the
// effects of open tasks over them.
import type { JsonObject } from '../db/json.ts'
import type { Sql } from '../db/open.ts'
import type { Overlay } from '../inventory/fleet-state.ts'
import { loadFacts } from '../inventory/load.ts'
import { newMacs } from '../inventory/macs.ts'
import { quote } from '../model/name.ts'
import { resource } from '../model/resource.ts'
import { openEffects } from '../queue/submit.ts'
import { standBehind } from '../queue/under-way.ts'
import type { Action } from './action.ts'
import { checkArgs } from './check-args.ts'
import { evaluatePlan, type Asked, type Evaluation, type Loaded } from './evaluate.ts'
import { RequestError } from './request-error.ts'
import { pointerTo, type SubmissionRequest } from './submission.ts'

/** At most this many tasks a submission. */
const maxTasks = 20_000
// Facts lead to further facts (a VM to its disks, these to their stores); each round loads at least one more.
const maxLoadRounds = 100

/** What is asked for, its actions known, its arguments checked and prepared. @throws RequestError */
export async function askedOf(
  sql: Sql,
  request: SubmissionRequest,
  registry: ReadonlyMap<string, Action>
): Promise<Asked[]> {
  const asked = checkedOf(request, registry)
  const wanted = asked.map(({ action, args }) => action.freshMacs?.(args) ?? 0)
  const macs = await freshMacs(
    sql,
    wanted.reduce((sum, count) => sum + count, 0)
  )
  return asked.map(({ action, args }, index) => {
    const fresh = { macs: macs.splice(0, wanted[index]) }
    return { action, args: within(request, index, () => (action.prepare?.(args, fresh) ?? args) as JsonObject) }
  })
}

/** Addresses that no card has, and that no open task will give to one. */
async function freshMacs(sql: Sql, count: number): Promise<string[]> {
  const fresh: string[] = []
  for (let round = 0; round < maxLoadRounds && fresh.length < count; round++) {
    const drawn = await newMacs(sql, count - fresh.length)
    const taken = new Set((await openEffects(sql, drawn.map(resource.mac))).map(({ subject }) => subject))
    fresh.push(...drawn.filter((mac) => !taken.has(resource.mac(mac))))
  }
  return fresh
}

function checkedOf(request: SubmissionRequest, registry: ReadonlyMap<string, Action>): Asked[] {
  if (request.tasks.length === 0 || request.tasks.length > maxTasks) {
    throw new RequestError('bad_size', `a submission holds 1 to ${maxTasks} tasks, not ${request.tasks.length}`, {
      pointer: '/tasks',
      next: 'split it into several plans',
      status: request.tasks.length === 0 ? 'bad_request' : 'too_large'
    })
  }
  return request.tasks.map((task, index) => {
    const action = registry.get(task.action)
    if (!action) {
      throw new RequestError('unknown_action', `there is no action ${quote(task.action)}`, {
        pointer: `${pointerTo(request, index)}/action`,
        next: `one of ${[...registry.keys()].join(', ')}`
      })
    }
    return { action, args: within(request, index, () => checkArgs(action, task.args)) }
  })
}

/** A refusal says at which element. */
function within<T>(request: SubmissionRequest, index: number, body: () => T): T {
  try {
    return body()
  } catch (error) {
    throw error instanceof RequestError ? error.within(`${pointerTo(request, index)}/args`) : error
  }
}

/** Everything was loaded. */
export type Done = Extract<Evaluation, { missing: null }>

/** Evaluates, loading what is missing, until nothing is; as if the open task `without` were not there, nor what stands behind it. */
export async function evaluateLoaded(
  sql: Sql,
  asked: readonly Asked[],
  known: ReadonlySet<string>,
  without?: number
): Promise<{ evaluation: Done; subjects: Set<string> }> {
  const base = new Map<string, JsonObject | null>()
  const overlays = new Map<string, Overlay[]>()
  let wanted: ReadonlySet<string> = known
  for (let round = 0; round < maxLoadRounds; round++) {
    if (wanted.size > 0) await loadInto(sql, [...wanted], base, overlays, without)
    const evaluation = evaluatePlan(asked, { base, overlays } satisfies Loaded)
    if (evaluation.missing === null) return { evaluation, subjects: new Set(base.keys()) }
    wanted = evaluation.missing
  }
  throw new Error(`facts led to further facts ${maxLoadRounds} times; last: ${[...wanted].slice(0, 5).join(', ')}`)
}

async function loadInto(
  sql: Sql,
  subjects: readonly string[],
  base: Map<string, JsonObject | null>,
  overlays: Map<string, Overlay[]>,
  without: number | undefined
): Promise<void> {
  for (const [subject, facts] of await loadFacts(sql, subjects)) base.set(subject, facts)
  const effects = await openEffects(sql, subjects)
  // A part stands where its parent stands: what is queued behind that has not happened for it.
  const ids = effects.map(({ task }) => task)
  const behind = without === undefined ? new Set<number>() : await standBehind(sql, without, ids)
  for (const effect of effects) {
    if (effect.task === without || behind.has(effect.task)) continue
    const list = overlays.get(effect.subject) ?? []
    overlays.set(effect.subject, list)
    list.push({ task: effect.task, title: effect.title, subject: effect.subject, facts: effect.facts })
  }
}
