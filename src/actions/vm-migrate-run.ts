// Runs a migration: looks at both hosts, begins unless an earlier attempt has, watches, and settles by what both hosts say.
import { setTimeout as delay } from 'node:timers/promises'
import { HostError } from '../host/error.ts'
import type { MigrateOptions } from '../host/host.ts'
import type { HostFacts } from '../inventory/facts.ts'
import { memoryText } from '../model/memory-text.ts'
import { failed, type ActionContext, type Outcome, type Probe } from './action.ts'
import type { Step } from './attempt.ts'
import { returnSnapshots, takeOffSnapshots } from './carried-snapshots.ts'
import { ownError } from './error.ts'
import { parkIfCordoned } from './host-refusal.ts'
import { defaultDeadlineSeconds, type VmMigrateArgs } from './vm-migrate-args.ts'
import { isManaged } from './vm-migrate-check.ts'
import { carryThrough, type Phases } from './vm-migrate-engine.ts'
import { findMove, lookAtBoth, type Move, type Sight } from './vm-migrate-look.ts'
import { moveOffline, probeOffline } from './vm-migrate-offline.ts'
import { notMoved, settleMigration, undecided } from './vm-migrate-settle.ts'

const pollMs = 500
/** What both hosts say may lag behind the end of the call, e.g. while the target discards its copy. */
const settleMs = 30_000
/** A daemon that restarts, or a connection that was cut, is mostly back by then. */
const patienceMs = 5_000
/** A link that comes back mostly does so within this. */
const resumeMs = 30_000
const resumePauseMs = 1_000

/** Why it was told to stop, whether a host said that it was over, and how far it came where it was carried through from here. */
export type Watch = {
  stopped: 'cancel' | 'deadline' | null
  isAborted: boolean
  reported: HostError | null
  phases: Phases | null
}

const targetOf = (ctx: ActionContext, { to }: VmMigrateArgs): string | null => to ?? ctx.boundTarget

export async function migrate(ctx: ActionContext, args: VmMigrateArgs, step: Step): Promise<Outcome> {
  const target = targetOf(ctx, args)
  if (target === null) throw new Error('vm.migrate runs with a target')
  if (args.offline) return moveOffline(ctx, args.vm, target, step)
  step('look at both hosts')
  const move = await findMove(ctx, args.vm, target)
  const watch: Watch = { stopped: null, isAborted: false, reported: null, phases: null }
  const deadline = performance.now() + (args.deadlineSeconds ?? defaultDeadlineSeconds) * 1000
  const before = await lookAtBoth(ctx, move)
  // Anything else than "nothing moved" is what an earlier attempt left, or still carries: it is settled, never begun again.
  if (before.row.outcome === 'at_source') {
    const refusal = await begin(ctx, args, move, before, watch, deadline, step)
    if (refusal) return refusal
  }
  step('look at both hosts again')
  let after = await untilDecided(ctx, move, watch, deadline)
  if (after.row.outcome === 'post_copy_broken') {
    await resumeBroken(ctx, move, optionsOf(args, after, ctx.state.host(target)), step)
    after = await untilDecided(ctx, move, watch, deadline)
  }
  return settleMigration(ctx, move, after, watch, step)
}

/**
 * The link was cut in the middle of a post-copy: the guest stands still at the target until the source sends the rest. QEMU says
 * "still running" until both sides have noticed the cut, so that it is asked again.
 */
async function resumeBroken(ctx: ActionContext, move: Move, options: MigrateOptions, step: Step): Promise<void> {
  if (move.source === null) return
  step('go on with the post-copy')
  const giveUp = performance.now() + resumeMs
  for (;;) {
    try {
      return await ctx.host(move.source).resumePostCopy(move.uuid, options)
    } catch (error) {
      if (!(error instanceof HostError) || error.code === 'fenced') throw error
      ctx.log('info', `the post-copy does not go on yet: ${error.message}`, { host: error.host, code: error.code })
    }
    if (performance.now() > giveUp || ctx.signal.aborted) return
    await delay(resumePauseMs)
    if ((await lookAtBoth(ctx, move)).row.outcome !== 'post_copy_broken') return
  }
}

async function begin(
  ctx: ActionContext,
  args: VmMigrateArgs,
  move: Move,
  before: Sight,
  watch: Watch,
  deadline: number,
  step: Step
): Promise<Outcome | undefined> {
  const { source, target, uuid } = move
  const managed = isCarriedFromHere(ctx, args)
  const facts = ctx.state.host(target)
  if (!before.source || source === null || (!managed && !facts?.peerUri)) return failed(notMovable(move))
  const closed = parkIfCordoned(ctx, target)
  if (closed) return closed
  if (before.target) return failed(definedOnTarget(move))
  const namesake = await ctx.host(target).vmByName(before.source.name)
  if (namesake) return failed(nameTaken(move, namesake.uuid))
  step('ask the target whether it would run it')
  const xml = await ctx.host(source).vmXml(uuid, { inactive: false, secure: true, migratable: true })
  const [against, ...more] = await ctx.host(target).whyNotHere(xml)
  if (against !== undefined) return failed(notHere(move, [against, ...more]))
  await ctx.observe.bindWhereabouts(uuid, target)
  try {
    await takeOffSnapshots(ctx, uuid, source, step)
    step('migrate')
    const options = optionsOf(args, before, facts)
    if (managed) watch.phases = { finishSent: false }
    const call = watch.phases
      ? carryThrough(ctx, { ...move, source }, options, watch.phases)
      : ctx.host(source).migrateVm(uuid, options)
    await watched(ctx, move, call, watch, deadline)
  } catch (error) {
    // Nothing was begun, and nobody may come back to it for long, or at all.
    if (error instanceof HostError && error.code !== 'fenced') await returnSnapshots(ctx, move, source)
    throw error
  }
  return undefined
}

function isCarriedFromHere(ctx: ActionContext, args: VmMigrateArgs): boolean {
  const vm = ctx.state.vm(args.vm)
  return vm === undefined ? args.managed === true : isManaged(vm, args, ctx.state)
}

const optionsOf = (args: VmMigrateArgs, { source }: Sight, target: HostFacts | undefined): MigrateOptions => ({
  peerUri: target?.peerUri ?? '',
  migrationUri: target?.migrationUri ?? null,
  live: true,
  persistent: source?.persistent ?? true,
  tls: args.tls ?? false,
  unsafe: args.unsafe ?? false,
  autoConverge: args.autoConverge ?? false,
  postCopy: args.postCopy ?? false,
  copyStorage: args.copyStorage ?? false,
  bandwidthMiBps: args.bandwidthMiBps ?? null
})

/** Shows progress until the call is over, and stops the job when asked or late. @throws HostError when it was never sent */
async function watched(
  ctx: ActionContext,
  move: Move,
  call: Promise<void>,
  watch: Watch,
  deadline: number
): Promise<void> {
  let over = false
  const ended = call.then(
    () => void (over = true),
    (error: unknown) => {
      over = true
      if (!(error instanceof HostError) || error.code === 'unreachable' || error.code === 'fenced') throw error
      watch.reported = error
    }
  )
  for (;;) {
    await Promise.race([ended, nextTurn(ctx, watch)])
    if (over) return ended
    await stopIfDue(ctx, move, watch, deadline)
    await showProgress(ctx, move)
  }
}

/** The next look; at once when somebody cancels. */
async function nextTurn(ctx: ActionContext, watch: Watch): Promise<void> {
  if (watch.stopped === 'cancel') return delay(pollMs)
  try {
    await delay(pollMs, undefined, { signal: ctx.signal })
  } catch {
    // Woken by the cancellation, which the loop sees.
  }
}

async function stopIfDue(ctx: ActionContext, move: Move, watch: Watch, deadline: number): Promise<void> {
  const due = ctx.signal.aborted ? 'cancel' : performance.now() > deadline ? 'deadline' : null
  if (!due || watch.isAborted || move.source === null) return
  watch.stopped ??= due
  try {
    await ctx.host(move.source).abortVmJob(move.uuid)
    watch.isAborted = true
  } catch (error) {
    // There may be no job yet, and then there will be; or no more, and what became of it is looked at either way.
    if (!(error instanceof HostError) || error.code === 'fenced') throw error
    ctx.log('warn', `the migration could not be aborted: ${error.message}`, { host: move.source, code: error.code })
  }
}

async function showProgress(ctx: ActionContext, move: Move): Promise<void> {
  if (move.source === null) return
  try {
    const job = await ctx.host(move.source).vmJob(move.uuid)
    if (!job) return
    const rest = `${memoryText(Math.round(job.remainingBytes / 1024 ** 2))} to go`
    ctx.progress({ done: job.processedBytes, total: job.totalBytes, unit: 'bytes', note: rest })
  } catch (error) {
    // Progress is a courtesy.
    if (!(error instanceof HostError) || error.code === 'fenced') throw error
  }
}

/**
 * Looks until the hosts' answers say how it ended. What would end badly is only believed when it is seen twice: two looks at two
 * hosts are never at one moment.
 */
async function untilDecided(ctx: ActionContext, move: Move, watch: Watch, deadline: number): Promise<Sight> {
  let previous: string | undefined
  const patience = performance.now() + patienceMs
  let giveUp = performance.now() + settleMs
  for (;;) {
    const sight = await lookAtBoth(ctx, move)
    const { outcome } = sight.row
    const good = outcome === 'at_target' || outcome === 'at_target_source_left'
    const silent = sight.isSilent && performance.now() < patience
    if (good || (!silent && outcome !== 'going_on' && outcome === previous)) return sight
    previous = outcome
    if (outcome === 'going_on') {
      // Carried by its source for an earlier attempt of ours: as long as the deadline allows, and then as long as an abort takes.
      if (watch.stopped === null) giveUp = deadline + settleMs
      await stopIfDue(ctx, move, watch, deadline)
      await showProgress(ctx, move)
    }
    if (performance.now() > giveUp) return sight
    await nextTurn(ctx, watch)
  }
}

/**
 * `no` = not ended well: another run settles or joins what there is, and begins only if nothing moved. Of one that was uncertain that
 * is known to have begun, so that it has failed: nobody may want it any more once its host is back.
 */
export async function probeMigration(ctx: ActionContext, args: VmMigrateArgs): Promise<Probe> {
  const to = targetOf(ctx, args)
  if (to === null) return { happened: 'no', evidence: null }
  if (args.offline) return probeOffline(ctx, args.vm, to)
  const move = await findMove(ctx, args.vm, to)
  const { row, source, target, evidence } = await lookAtBoth(ctx, move)
  if (row.outcome === 'uncertain')
    return { happened: 'unknown', evidence, why: row.why, error: undecided(move, row, null) }
  if (row.outcome === 'at_source' && move.source !== null) {
    await returnSnapshots(ctx, move, move.source)
    await ctx.observe.vm(move.source, move.uuid)
    return { happened: 'no', evidence, ended: notMoved(move) }
  }
  // A definition that is left at the source is the run's to remove.
  if (row.outcome !== 'at_target' || source || !target) return { happened: 'no', evidence }
  // So are snapshots of which the target was not told yet.
  if ((await ctx.observe.keptSnapshots(move.uuid)).length > 0) return { happened: 'no', evidence }
  if (move.source !== null) await ctx.observe.vm(move.source, move.uuid)
  await ctx.observe.vm(move.target, move.uuid)
  return { happened: 'yes', evidence, result: { from: move.source, to: move.target } }
}

const lookStep = 'look at both hosts'

const notHere = ({ name, target }: Move, against: string[]) =>
  ownError(
    'target_cannot_run_it',
    `${target} would not run ${name}: ${against.join('; ')}`,
    'ask the target whether it would run it',
    'give the target what it lacks, or choose another host',
    { target, against }
  )

const notMovable = ({ name, source, target }: Move) =>
  ownError(
    'vm_not_movable',
    `${name} is not active on ${source ?? 'any host'}, or ${target} has no peer URI`,
    lookStep,
    'look where the VM is: `taskomatic vm show`',
    { target }
  )

const definedOnTarget = ({ name, target }: Move) =>
  ownError(
    'defined_on_target',
    `${name} is defined on ${target} too: a migration would replace that definition without a word`,
    lookStep,
    `undefine it on ${target} first`,
    { target }
  )

const nameTaken = ({ name, target }: Move, uuid: string) =>
  ownError(
    'name_taken',
    `${target} has another VM ${name} (${uuid})`,
    lookStep,
    'rename one of them, or choose another host',
    { target, uuid }
  )
