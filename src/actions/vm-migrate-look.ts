// Looks at both ends of a migration, in the order that makes what is seen fit together.
import { HostError } from '../host/error.ts'
import type { ObservedVm } from '../model/vm.ts'
import type { JsonObject } from '../db/json.ts'
import type { ActionContext } from './action.ts'
import { outcomeOfMigration, type Row, type Side } from './migration-outcome.ts'
import { lookEverywhere } from './vm-place.ts'

export type Move = { uuid: string; name: string; source: string | null; target: string }

/**
 * It moves from where the task is bound, since its first attempt, and from nowhere else: another host may keep a definition of it
 * on purpose. Null once nothing of it is left there. A silent host counts while it may have it: until it speaks nothing is known.
 */
export async function findMove(ctx: ActionContext, uuid: string, target: string): Promise<Move> {
  const facts = ctx.state.vm(uuid)
  const name = facts?.name ?? uuid
  const from = ctx.boundHost
  if (from === null || from === target) return { uuid, name, source: null, target }
  if (facts?.activeOn === from) return { uuid, name, source: from, target }
  const { seen, unknown } = await lookEverywhere(ctx, uuid, [from, target])
  const isLeft = [...seen, ...unknown].some(({ host }) => host === from)
  return { uuid, name, source: isLeft ? from : null, target }
}

export type Sight = {
  row: Row
  isSilent: boolean
  source: ObservedVm | undefined
  target: ObservedVm | undefined
  evidence: JsonObject
}

type Answer = { vm: ObservedVm | undefined } | { silent: string }

/**
 * The job first: once it is over, no other begins, since the VM is claimed. Then the target, then the source: a target that ran
 * before the source was seen running is a second copy, and not a switch-over in between.
 */
export async function lookAtBoth(ctx: ActionContext, move: Move): Promise<Sight> {
  const job = move.source === null ? false : await hasJob(ctx, move.source, move.uuid)
  const target = await look(ctx, move.target, move.uuid)
  const source: Answer = move.source === null ? { vm: undefined } : await look(ctx, move.source, move.uuid)
  const seen = { source: job === 'silent' ? 'silent' : sideOf(source, job), target: sideOf(target, false) } as const
  const row = outcomeOfMigration(seen.source, seen.target)
  return {
    row,
    isSilent: seen.source === 'silent' || seen.target === 'silent',
    source: 'vm' in source ? source.vm : undefined,
    target: 'vm' in target ? target.vm : undefined,
    evidence: {
      sourceHost: move.source,
      targetHost: move.target,
      source: seen.source,
      target: seen.target,
      row: row.why
    }
  }
}

async function look(ctx: ActionContext, host: string, uuid: string): Promise<Answer> {
  try {
    return { vm: await ctx.host(host).vm(uuid) }
  } catch (error) {
    if (!(error instanceof HostError) || error.code === 'fenced') throw error
    return (await ctx.observe.isConfirmedOff(host)) ? { vm: undefined } : { silent: error.message }
  }
}

async function hasJob(ctx: ActionContext, host: string, uuid: string): Promise<boolean | 'silent'> {
  try {
    return (await ctx.host(host).vmJob(uuid)) !== undefined
  } catch (error) {
    if (!(error instanceof HostError) || error.code === 'fenced') throw error
    return (await ctx.observe.isConfirmedOff(host)) ? false : 'silent'
  }
}

function sideOf(answer: Answer, job: boolean): Side {
  if ('silent' in answer) return 'silent'
  return answer.vm ? { power: answer.vm.power, reason: answer.vm.reason, job } : null
}
