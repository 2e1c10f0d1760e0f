// Settles a migration by the row that fits what both hosts say: cleans up what is left, and says what became of the VM.
import type { HostError } from '../host/error.ts'
import { complete, failed, retry, uncertain, type ActionContext, type Outcome } from './action.ts'
import { maxAttempts, retryDelayMs, type Step } from './attempt.ts'
import { putBackSnapshots } from './carried-snapshots.ts'
import { errorOf, isTransient, ownError } from './error.ts'
import type { Row } from './migration-outcome.ts'
import type { Watch } from './vm-migrate-run.ts'
import type { Move, Sight } from './vm-migrate-look.ts'
import { isActive } from '../model/vm.ts'
import type { TaskError } from '../queue/task.ts'

const goneMs = 30_000

export async function settleMigration(
  ctx: ActionContext,
  move: Move,
  sight: Sight,
  watch: Watch,
  step: Step
): Promise<Outcome> {
  switch (sight.row.outcome) {
    case 'at_target':
    case 'at_target_source_left':
      return arrived(ctx, move, sight, step)
    case 'at_source':
      return stayed(ctx, move, watch, step)
    case 'at_source_target_left':
      step('remove the copy at the target')
      await ctx.host(move.target).powerOffVm(move.uuid)
      return stayed(ctx, move, watch, step)
    case 'both_running':
      return twoWriters(ctx, move, sight, step)
    case 'nowhere':
      await putBackWhereDefined(ctx, move, sight, step)
      await observeBoth(ctx, move)
      return failed(runsNowhere(move, sight, watch))
    default:
      // Carried through from here, it never ran at the target: nobody told the target to run it.
      if (watch.phases?.finishSent === false && isHandedOver(sight)) return takenBack(ctx, move, watch, step)
      return uncertain(undecided(move, sight.row, watch.reported), sight.evidence)
  }
}

/** Stands still at the source, with nothing at the target. */
const isHandedOver = ({ source, target, isSilent }: Sight): boolean =>
  !isSilent &&
  source?.power === 'paused' &&
  source.reason === 'migrating' &&
  (target === undefined || !isActive(target.power))

async function takenBack(ctx: ActionContext, move: Move, watch: Watch, step: Step): Promise<Outcome> {
  step('let it go on at the source')
  if (move.source !== null) await ctx.host(move.source).resumeVm(move.uuid)
  return stayed(ctx, move, watch, step)
}

/** It is at the target: what is left at the source goes, so that nothing starts a second copy from it. */
async function arrived(ctx: ActionContext, move: Move, sight: Sight, step: Step): Promise<Outcome> {
  if (move.source !== null && sight.source) {
    const host = ctx.host(move.source)
    if (isActive(sight.source.power)) {
      step('remove the copy at the source')
      await host.powerOffVm(move.uuid)
      await host.untilVm(move.uuid, (vm) => !vm || !isActive(vm.power), { timeoutMs: goneMs })
    }
    if ((await host.vm(move.uuid))?.persistent) {
      step('remove the definition at the source')
      await ctx.observe.keepDefinition(
        move.uuid,
        move.source,
        await host.vmXml(move.uuid, { inactive: true, secure: true })
      )
      // Firmware state stays: beside a shared disk it is what the target runs with. A saved image is older than the disk now.
      await host.undefineVm(move.uuid, { savedImage: true, snapshots: true, firmwareState: false })
      await host.untilVm(move.uuid, (vm) => vm === undefined, { timeoutMs: goneMs })
    }
  }
  const untold = await putBackSnapshots(ctx, move, move.target, step)
  step('look at the target')
  await observeBoth(ctx, move)
  if (untold) return failed(untold)
  return complete({ from: move.source, to: move.target, power: sight.target?.power ?? null })
}

async function stayed(ctx: ActionContext, move: Move, watch: Watch, step: Step): Promise<Outcome> {
  const untold = move.source === null ? undefined : await putBackSnapshots(ctx, move, move.source, step)
  if (untold) ctx.log('error', untold.message, { host: move.source })
  await observeBoth(ctx, move)
  const { reported, stopped } = watch
  const there = `${move.name} stays on ${move.source}`
  if (stopped === 'cancel')
    return { outcome: 'cancelled', error: stoppedError('cancelled', `the migration was cancelled: ${there}`) }
  if (stopped === 'deadline') {
    return failed(stoppedError('deadline', `the migration was not done in time and was given up: ${there}`))
  }
  if (!reported) return failed(notMoved(move))
  const error = errorOf(reported, 'migrate')
  const told = { ...error, message: `${there}: ${error.message}` }
  return isTransient(reported) && ctx.task.attempt < maxAttempts
    ? retry(retryDelayMs(ctx.task.attempt), told)
    : failed(told)
}

export const notMoved = ({ name, source }: Move): TaskError =>
  stoppedError('not_migrated', `nothing was moved: ${name} stays on ${source}`)

const stoppedError = (code: string, message: string): TaskError =>
  ownError(
    code,
    message,
    'migrate',
    'migrate it again; a guest that writes too fast needs `--auto-converge` or `--post-copy`'
  )

/** Reversible, and at once: every moment of two writers destroys more of the disk. */
async function twoWriters(ctx: ActionContext, move: Move, sight: Sight, step: Step): Promise<Outcome> {
  step('pause the copy at the source')
  ctx.log(
    'error',
    `${move.name} runs on ${move.source} and on ${move.target}: the copy on ${move.source} is paused`,
    sight.evidence
  )
  if (move.source !== null) await ctx.host(move.source).pauseVm(move.uuid)
  await observeBoth(ctx, move)
  return uncertain(
    ownError(
      'two_copies_run',
      `${move.name} ran on ${move.source} and on ${move.target} at once; the copy on ${move.source} was paused`,
      'look at both hosts again',
      'check the disk, then delete one of the copies'
    ),
    sight.evidence
  )
}

/** It runs nowhere; what is left of it keeps its snapshots. */
async function putBackWhereDefined(
  ctx: ActionContext,
  move: Move,
  { source, target }: Sight,
  step: Step
): Promise<void> {
  const host = source?.persistent ? move.source : target?.persistent ? move.target : null
  const untold = host === null ? undefined : await putBackSnapshots(ctx, move, host, step)
  if (untold) ctx.log('error', untold.message, { host })
}

async function observeBoth(ctx: ActionContext, move: Move): Promise<void> {
  if (move.source !== null) await ctx.observe.vm(move.source, move.uuid)
  await ctx.observe.vm(move.target, move.uuid)
}

function runsNowhere({ name, source, target }: Move, sight: Sight, { reported }: Watch): TaskError {
  const [at, on] = [sight.source ?? sight.target, sight.source ? source : target]
  const last = at ? `${at.power} (${at.reason}) on ${on}` : 'on neither host'
  const error = reported ? errorOf(reported, 'migrate') : undefined
  return {
    ...ownError(
      'vm_runs_nowhere',
      `${name} runs neither on ${source} nor on ${target} after the migration: it is ${last}`,
      'look at both hosts again',
      'start it: `taskomatic vm start`, after a look at its log on both hosts'
    ),
    ...(error?.details ? { details: error.details } : {}),
    ...(error ? { causes: [{ code: error.code, message: error.message }] } : {})
  }
}

export function undecided({ name, source, target }: Move, row: Row, reported: HostError | null): TaskError {
  const next =
    row.outcome === 'post_copy_broken'
      ? `join the hosts again: it is tried again to go on with the post-copy`
      : 'it is looked for again when both hosts answer; else look at both and give a verdict: `taskomatic task verdict`'
  return {
    ...ownError(
      'migration_unclear',
      `what became of ${name} between ${source} and ${target} is not known: ${row.why}`,
      'look at both hosts again',
      next
    ),
    ...(reported ? { causes: [{ code: `host_${reported.code}`, message: reported.message }] } : {})
  }
}
