// Moves a VM that is off to another home before it starts there: its definition is made at the new home, and taken away at the old
// one, whose firmware and TPM state stay. The new definition carries the task's mark, so that another attempt knows it again.
import { HostError } from '../host/error.ts'
import type { Host } from '../host/host.ts'
import { quote } from '../model/name.ts'
import type { VmMark } from '../model/vm.ts'
import { failed, type ActionContext, type Outcome } from './action.ts'
import type { Step } from './attempt.ts'
import { ownError } from './error.ts'
import { isOurs, markOf } from './task-mark.ts'
import { neededDisks } from './vm-elsewhere.ts'
import type { Sightings } from './vm-place.ts'
import { named } from './vm-refusal.ts'

const goneMs = 30_000

/** Undefined once the definition is on the bound host alone; else why it cannot be brought there. @throws HostError */
export async function moveHome(
  ctx: ActionContext,
  what: { uuid: string; home: string; to: string; discardSaved: boolean },
  sightings: Sightings,
  step: Step
): Promise<Outcome | undefined> {
  const { uuid, home } = what
  const to = ctx.host(what.to)
  const there = sightings.seen.find(({ host }) => host === to.name)?.vm
  const old = sightings.seen.find(({ host }) => host === home)?.vm
  if (there && !isOurs(ctx, there)) return failed(definedThere(there.name, to.name, home))
  if (!there) {
    step(`read the definition of ${home}`)
    const kept = old
      ? { xml: await ctx.host(home).vmXml(uuid, { inactive: true, secure: true }) }
      : await ctx.observe.keptDefinition(uuid)
    if (!kept) return failed(noDefinition(ctx.state.vm(uuid)?.name ?? uuid, home))
    const refused = await define(ctx, to, uuid, kept.xml, old?.mark ?? null, step)
    if (refused) return refused
  }
  // Seen first: else a third host that has a definition would be taken for its home once the old one is gone.
  await ctx.observe.vm(to.name, uuid)
  // What earlier attempts left elsewhere goes as well.
  for (const { host, vm } of sightings.seen) {
    if (host === to.name || (host !== home && !isOurs(ctx, vm))) continue
    step(`undefine on ${host}`)
    await ctx.host(host).undefineVm(uuid, { savedImage: what.discardSaved, snapshots: false, firmwareState: false })
    await ctx.host(host).untilVm(uuid, (now) => now === undefined, { timeoutMs: goneMs, signal: ctx.signal })
    await ctx.observe.vm(host, uuid)
  }
  if (!old && (await ctx.observe.isConfirmedOff(home))) await ctx.observe.leaveBehind(uuid, home)
  await ctx.observe.vm(to.name, uuid)
  return undefined
}

async function define(
  ctx: ActionContext,
  to: Host,
  uuid: string,
  xml: string,
  mark: VmMark | null,
  step: Step
): Promise<Outcome | undefined> {
  const facts = ctx.state.vm(uuid)
  const name = facts?.name ?? uuid
  step(`look whether ${to.name} has its disks`)
  for (const disk of facts ? neededDisks(facts) : []) {
    const pool = disk.store === null ? undefined : ctx.state.store(disk.store)?.pools[to.name]?.pool
    if (pool === undefined || disk.volume === null || !(await hasVolume(to, pool, disk.volume)))
      return failed(diskMissing(name, disk.source ?? disk.target, to.name))
  }
  const namesake = await to.vmByName(name)
  if (namesake && namesake.uuid !== uuid) return failed(nameTaken(name, namesake.uuid, to.name))
  // Before the old one goes: whoever loses both still has this.
  await ctx.observe.keepDefinition(uuid, to.name, xml)
  step(`define on ${to.name}`)
  await ctx.observe.bindWhereabouts(uuid, to.name)
  await to.defineVm(to.markXml(xml, { uuid, name }, markOf(ctx, mark)))
  return undefined
}

/** A pool lists what it saw last: another host may have made the volume since. */
async function hasVolume(host: Host, pool: string, name: string): Promise<boolean> {
  if (await host.volume(pool, name)) return true
  try {
    await host.refreshPool(pool)
  } catch (error) {
    if (!(error instanceof HostError) || error.code !== 'refused') throw error
  }
  return (await host.volume(pool, name)) !== undefined
}

const definedThere = (name: string, host: string, home: string) =>
  ownError(
    'defined_on_target',
    `${named({ name })} is defined on ${host} too, and this task did not define it there`,
    'look where the VM is',
    `undefine it on ${host} first, or start it on ${home}`,
    { host }
  )

const noDefinition = (name: string, home: string) =>
  ownError(
    'no_definition',
    `${named({ name })} has no definition on ${home} and none was kept`,
    `read the definition of ${home}`,
    `wait for ${home}, or create it anew from its disks`,
    { host: home }
  )

const diskMissing = (name: string, source: string, host: string) =>
  ownError(
    'disk_not_there',
    `${host} does not have ${source}, a disk of ${named({ name })}`,
    `look whether ${host} has its disks`,
    `see whether the store of ${host} is the one that it should be: \`taskomatic store list\``,
    { host, disk: source }
  )

const nameTaken = (name: string, uuid: string, host: string) =>
  ownError(
    'name_taken',
    `${host} has another VM ${quote(name)} (${uuid})`,
    `look whether ${host} has its disks`,
    'rename one of them, or choose another host',
    { host, uuid }
  )
