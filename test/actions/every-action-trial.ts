// One action at one place: done well, and with one of its calls going wrong. What must hold afterwards is here; what differs between
// actions is in the rows.
import { expect } from 'vitest'
import { RequestError } from '../../src/actions/request-error.ts'
import type { JsonObject } from '../../src/db/json.ts'
import { QueueError } from '../../src/queue/error.ts'
import { phaseOf } from '../../src/queue/state.ts'
import type { Task } from '../../src/queue/task.ts'
import type { Fault } from '../../src/sim/faults.ts'
import type { Picture } from './every-action-picture.ts'
import { endOf, type Place } from './every-action-place.ts'
import type { Row } from './every-action-rows.ts'
import { Ear, type Call } from './every-action-world.ts'

export type Trial = { action: string; row: Row; place: Place }

/** What the action does when nothing goes wrong: its calls that change something, and what is different afterwards. */
export type Done = { calls: Call[]; changes: string[] }

type Stage = { args: JsonObject; before: Picture }

/** Told in short what is not as expected. */
function expectSame(now: readonly string[], expected: readonly string[], what: string): void {
  const missing = expected.filter((line) => !now.includes(line)).map((line) => `missing: ${line}`)
  const surplus = now.filter((line) => !expected.includes(line)).map((line) => `surplus: ${line}`)
  const told = [...missing, ...surplus]
  if (told.length === 0 && now.length === expected.length) return
  throw new Error(`${what}: ${told.length} lines: ${told.slice(0, 6).join('\n   ')}`)
}

async function staged({ row, place }: Trial): Promise<Stage> {
  place.renew()
  const args = await row.stage(place)
  return { args, before: await place.picture() }
}

/** Done, asked for again, undone, and undone again. */
export async function well(trial: Trial): Promise<Done> {
  const { action, row, place } = trial
  const { args, before } = await staged(trial)
  const ear = new Ear(place.sims)
  const { id, plan } = await place.world.ask(action, args)
  const task = await place.world.until(id)
  ear.stop()
  expect(endOf(task)).toBe('complete')
  await place.nothingHeld()
  const changes = await place.settledChanges(before)
  expect(await again(trial, args), 'asked for again').toBe(row.again)
  expectSame(await place.changed(before, changes), changes, 'after it was asked for again')
  await undone(trial, plan, before)
  await row.tidy?.(place)
  return { calls: ear.calls, changes }
}

/** Asked for once more: a task that changes nothing, one that does, or a refusal. */
async function again({ action, place }: Trial, args: JsonObject): Promise<string> {
  const ear = new Ear(place.sims)
  try {
    const { id } = await place.world.ask(action, args)
    const { state, error } = await place.world.until(id)
    if (state !== 'complete') return `refused: ${error?.code}`
    // A pool that is looked through once more is not changed by that.
    return ear.calls.every(({ procedure }) => procedure === 'STORAGE_POOL_REFRESH') ? 'nothing to do' : 'done again'
  } catch (error) {
    if (error instanceof RequestError || error instanceof QueueError) return `refused: ${error.code}`
    throw error
  } finally {
    ear.stop()
  }
}

/** The plan is undone as the row says, and a second time there is nothing to undo. */
async function undone({ row, place }: Trial, plan: number, before: Picture, may?: string): Promise<void> {
  if (typeof row.undo === 'string' && row.undo !== 'undone') {
    const why = row.undo.replace('impossible: ', '')
    await expect(place.world.undo(plan)).rejects.toThrow(why)
    return
  }
  const { task } = await place.world.undo(plan)
  expect(endOf(task), 'its undoing').toBe('complete')
  const left = await place.changed(before, [])
  if (row.undo === 'undone' && may === undefined) expectSame(left, [], 'left after its undoing')
  else onlyAbout(left, may ?? (typeof row.undo === 'string' ? '' : row.undo.leaves))
  await expect(place.world.undo(plan)).rejects.toMatchObject({ code: 'nothing_to_undo' })
  expectSame(await place.changed(before, left), left, 'after undoing it twice')
  await place.nothingHeld()
}

function onlyAbout(lines: readonly string[], what: string): void {
  const others = lines.filter((line) => !new RegExp(what).test(line))
  expectSame(others, [], `beside ${what}`)
}

const surplus = (now: readonly string[], expected: readonly string[]): string[] =>
  now.filter((line) => !expected.includes(line))

export type Wrong = 'refused' | 'lost before' | 'lost after'

const faults: { readonly [wrong in Wrong]: Fault } = {
  refused: { kind: 'error', code: 'OPERATION_FAILED', domain: 'QEMU', message: 'it is not to be' },
  'lost before': { kind: 'drop_before' },
  'lost after': { kind: 'drop_after' }
}

/** Done while one call goes wrong; then, if it failed, tried again; then undone. */
export async function wrong(trial: Trial, call: Call, how: Wrong, done: Done): Promise<string> {
  const { action, row, place } = trial
  const { args, before } = await staged(trial)
  const ear = new Ear(place.sims)
  ear.arm(call, faults[how])
  const rollsBack = row.half === true && how === 'refused'
  const { id, plan } = await place.world.ask(action, args, rollsBack ? 'rollback' : 'stop')
  const task = await place.world.until(id, ({ state }) => phaseOf(state) === 'ended' || state === 'uncertain')
  ear.stop()
  expect(ear.wasHit, 'the call came').toBe(true)
  await place.nothingHeld()
  const leaves = row.refused?.[`${call.procedure} ${call.nth}`]
  const may = how === 'refused' || (how === 'lost before' && leaves?.alsoLost) ? leaves : undefined
  await truthful({ task, before, done, place, may })
  if (rollsBack && task.state === 'failed') return endOf(task)
  if (task.state === 'failed') {
    const anew = await place.world.retry(id)
    expect(endOf(anew), `tried again after ${endOf(task)}`).toBe('complete')
    expectSame(await place.changed(before, done.changes), done.changes, 'after it was tried again')
  }
  await undone(trial, plan, before, may?.leaves)
  await row.tidy?.(place)
  return endOf(task)
}

type Ended = { task: Task; before: Picture; done: Done; place: Place; may: { leaves: string } | undefined }

/** Complete: all of it is there. Failed: it says why, and nothing of it is left but what the row says. */
async function truthful({ task, before, done, place, may }: Ended): Promise<void> {
  if (task.state === 'complete') {
    if (may) return onlyAbout(surplus(await place.changed(before, done.changes), done.changes), may.leaves)
    expectSame(await place.changed(before, done.changes), done.changes, 'of a complete task')
    return
  }
  expect(task.state, endOf(task)).toBe('failed')
  expect(task.error, 'why it failed').toMatchObject({ code: expect.any(String), message: expect.any(String) })
  const left = await place.changed(before, [])
  if (may) onlyAbout(left, may.leaves)
  else expectSame(left, [], `left by what ${endOf(task)}`)
}
