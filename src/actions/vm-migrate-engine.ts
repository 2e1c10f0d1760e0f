// Carries a migration through phase by phase, from here. Peer-to-peer, a source that does not hear that its target runs the guest
// takes it for failed and runs it again: QEMU's lock on image files stops that, and block devices have none. Here the source is told
// that it failed only when the target is known not to run the guest; where that is not known, the guest stays paused at the source.
import { HostError } from '../host/error.ts'
import type { Cookie, ManagedOptions, MigrationEnd } from '../host/managed-migration.ts'
import { isActive } from '../model/vm.ts'
import type { ActionContext } from './action.ts'
import type { Move } from './vm-migrate-look.ts'

/** How far it came: until `finish` was sent to the target, no guest has ever run there. */
export type Phases = { finishSent: boolean }

/** Resolves when it is over and both hosts agreed. @throws HostError: `unreachable` when nothing was begun; else why it ended */
export async function carryThrough(
  ctx: ActionContext,
  move: Move & { source: string },
  options: ManagedOptions,
  phases: Phases
): Promise<void> {
  const source = await ctx.host(move.source).openMigration(options)
  let target: MigrationEnd | undefined
  let begun = false
  try {
    target = await ctx.host(move.target).openMigration(options)
    const departure = await source.begin(move.uuid)
    begun = true
    await handOver(ctx, move, { source, target, ...departure }, phases)
  } catch (error) {
    throw begun ? asBegun(error) : error
  } finally {
    // What is not confirmed by then stays paused at the source, and what is not finished is thrown away by the target.
    source.close()
    target?.close()
  }
}

type Ends = { source: MigrationEnd; target: MigrationEnd; xml: string; cookie: Cookie }

async function handOver(ctx: ActionContext, move: Move, ends: Ends, phases: Phases): Promise<void> {
  const { source, target, xml } = ends
  const sent = await send(move, ends).catch(async (error: unknown) => {
    // The target has nothing that could run yet, so that the source may go on.
    await quietly(ctx, target.finish({ name: move.name, xml }, new Uint8Array(), true))
    await quietly(ctx, source.confirm(move.uuid, new Uint8Array(), true))
    throw error
  })
  phases.finishSent = true
  let cookie: Cookie
  try {
    cookie = await target.finish({ name: move.name, xml }, sent, false)
  } catch (error) {
    if (await isKnownNotToRun(ctx, move, ends, error)) await source.confirm(move.uuid, new Uint8Array(), true)
    throw error
  }
  await source.confirm(move.uuid, cookie, false)
}

async function send(move: Move, { source, target, xml, cookie }: Ends): Promise<Cookie> {
  const ready = await target.prepare(xml, cookie)
  return source.perform(move.uuid, { xml, uri: ready.uri }, ready.cookie)
}

/** Only the target's own word counts: it refused, and shows no guest. An answer that was lost says nothing. */
async function isKnownNotToRun(
  ctx: ActionContext,
  move: Move,
  { target, xml }: Ends,
  error: unknown
): Promise<boolean> {
  if (!(error instanceof HostError) || error.code !== 'refused') return false
  try {
    const there = await ctx.host(move.target).vm(move.uuid)
    if (there === undefined || !isActive(there.power)) return true
    // Refused without a look at what waits there.
    if (there.power !== 'paused' || there.reason !== 'migrating') return false
    await quietly(ctx, target.finish({ name: move.name, xml }, new Uint8Array(), true))
    const left = await ctx.host(move.target).vm(move.uuid)
    return left === undefined || !isActive(left.power)
  } catch (unseen) {
    if (unseen instanceof HostError && unseen.code !== 'fenced') return false
    throw unseen
  }
}

/** Cancelling is a courtesy: closing the connections does the same, later. */
async function quietly(ctx: ActionContext, call: Promise<unknown>): Promise<void> {
  try {
    await call
  } catch (error) {
    if (!(error instanceof HostError) || error.code === 'fenced') throw error
    ctx.log('info', `while the migration was called off: ${error.message}`, { host: error.host, code: error.code })
  }
}

/** From the first phase on nothing counts as never asked. */
function asBegun(error: unknown): unknown {
  if (!(error instanceof HostError) || error.code !== 'unreachable') return error
  return new HostError('unknown_outcome', error.host, error.message, { cause: error })
}
