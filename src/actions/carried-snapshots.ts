// Snapshots of a VM that moves: libvirt moves no VM that has any, so its source forgets them and its new host is told of them.
// Their data is inside the disks and stays there. In between they are kept in the database, so that none is lost whatever dies.
import { HostError } from '../host/error.ts'
import type { TaskError } from '../queue/task.ts'
import type { ActionContext } from './action.ts'
import type { Step } from './attempt.ts'
import { errorOf, ownError } from './error.ts'

/** Returns how many. What an earlier attempt kept, and could not bring anywhere, is carried as well. @throws HostError */
export async function takeOffSnapshots(ctx: ActionContext, uuid: string, host: string, step: Step): Promise<number> {
  const dumped = await ctx.host(host).dumpSnapshots(uuid)
  if (dumped.length > 0) {
    step('keep its snapshots')
    // Of those that an earlier attempt took off the current one may be one: the host then called its parent so.
    const current = (await ctx.observe.keptSnapshots(uuid)).find((snapshot) => snapshot.current)?.name
    const isCurrent = (one: { name: string; current: boolean }) =>
      current === undefined ? one.current : one.name === current
    await ctx.observe.keepSnapshots(
      uuid,
      host,
      dumped.map((one) => ({ ...one, current: isCurrent(one) }))
    )
    step('take its snapshots off the source')
    await ctx.host(host).forgetSnapshots(uuid)
  }
  return (await ctx.observe.keptSnapshots(uuid)).length
}

/**
 * Tells a host of the snapshots that are kept, and forgets those that are kept once it shows them. Undefined when all is well; what
 * it refuses stays kept, and another attempt tells it again.
 */
export async function putBackSnapshots(
  ctx: ActionContext,
  move: { uuid: string; name: string },
  host: string,
  step: Step
): Promise<TaskError | undefined> {
  const kept = await ctx.observe.keptSnapshots(move.uuid)
  if (kept.length === 0) return undefined
  step(`tell ${host} of its snapshots`)
  let refused: HostError | undefined
  try {
    await ctx.host(host).restoreSnapshots(move.uuid, kept)
  } catch (error) {
    if (!(error instanceof HostError) || error.code === 'fenced') throw error
    refused = error
  }
  const shown = new Set((await ctx.host(host).snapshots(move.uuid)).map(({ name }) => name))
  const missing = kept.filter(({ name }) => !shown.has(name)).map(({ name }) => name)
  if (missing.length > 0) return notTold(move.name, host, missing, refused)
  await ctx.observe.dropKeptSnapshots(move.uuid)
  await ctx.observe.vm(host, move.uuid)
  return undefined
}

/**
 * After something broke before the VM moved: they are told to the host again that they were taken off, as far as it answers. What it
 * does not take stays kept. The step at which it broke stays the current one.
 * @throws HostError `fenced`
 */
export async function returnSnapshots(
  ctx: ActionContext,
  move: { uuid: string; name: string },
  host: string
): Promise<void> {
  try {
    const untold = await putBackSnapshots(ctx, move, host, (name) => ctx.log('info', name))
    if (untold) ctx.log('warn', untold.message, { host })
  } catch (error) {
    if (!(error instanceof HostError) || error.code === 'fenced') throw error
    ctx.log('warn', `the snapshots of ${move.name} stay kept: ${error.message}`, { host, code: error.code })
  }
}

function notTold(name: string, host: string, missing: string[], refused: HostError | undefined): TaskError {
  const error = ownError(
    'snapshots_not_told',
    `${name} is on ${host}, which was not told of its snapshots ${missing.slice(0, 10).join(', ')}: they are kept, and still in its disks`,
    `tell ${host} of its snapshots`,
    'retry the task: it tells the host of them again',
    { host, missing }
  )
  const cause = refused && errorOf(refused, 'tell it')
  return cause ? { ...error, causes: [{ code: cause.code, message: cause.message }] } : error
}
