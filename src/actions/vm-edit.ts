// Replaces a VM's definition by an edited one, unless it has changed since it was read. The display's password, which whoever edited
// it was not shown, stays. What it was before is kept, so that the edit can be taken back.
import { createHash } from 'node:crypto'
import { Type, type Static } from 'typebox'
import type { Host } from '../host/host.ts'
import { readVmXml } from '../host/observed-vm.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { isActive } from '../model/vm.ts'
import {
  action,
  failed,
  impossible,
  possible,
  type ActionContext,
  type Outcome,
  type Probe,
  type Verdict
} from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { ownError } from './error.ts'
import { VmRef } from './refs.ts'
import { isOurs, markOf } from './task-mark.ts'
import { readGivenXml } from './vm-create-xml.ts'
import { bindToVm, boundVm, vmClaims, vmTitle } from './vm-place.ts'
import { named, ownVm } from './vm-refusal.ts'

const maxXmlCharacters = 1024 * 1024

const args = Type.Object(
  {
    vm: VmRef,
    xml: Type.Optional(
      Type.String({ description: 'The whole definition as libvirt XML', minLength: 1, maxLength: maxXmlCharacters })
    ),
    was: Type.Optional(
      Type.String({
        description: 'SHA-256, in hex, of the definition as it was read; another one on the host is not replaced',
        pattern: '^[0-9a-f]{64}$'
      })
    ),
    takeBack: Type.Optional(
      Type.Boolean({
        description: 'Take the last edit back instead, if nothing changed since; default false',
        default: false
      })
    )
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

/** Names a definition as it was shown: without its secrets. */
export const digestOf = (xml: string): string => createHash('sha256').update(xml).digest('hex')

export const vmEdit = action({
  name: 'vm.edit',
  summary: "Replace a VM's definition by an edited one",
  args,
  title: ({ vm, takeBack }, state) =>
    takeBack ? `${vmTitle('Take the last edit of', vm, state)} back` : vmTitle('Edit', vm, state),
  claims: ({ vm }, state) => vmClaims(vm, state),
  check: checkEdit,
  // What it will be is for the host to say: a running guest stays as it is until its next boot.
  effect: () => [],
  bindTo: ({ vm }, state) => bindToVm(vm, state),
  run: (ctx, given) => attempt(ctx, (step) => edit(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo: ({ vm, takeBack }) =>
    takeBack
      ? { impossible: 'an edit that was taken back is not made again' }
      : { action: 'vm.edit', args: { vm, takeBack: true } }
})

function checkEdit(given: Args, state: FleetState): Verdict {
  const { vm, refusal } = ownVm(given.vm, state)
  if (refusal) return refusal
  if (!vm.persistent)
    return impossible('vm_transient', `${named(vm)} has no definition that could be edited`, 'create it anew')
  if (given.takeBack) return possible
  if (given.xml === undefined || given.was === undefined)
    return impossible(
      'missing_field',
      'an edit needs the new definition and the digest of the old one',
      'give `xml` and `was`'
    )
  const read = readGivenXml(given.xml)
  if (read.problem !== undefined) return impossible('bad_xml', read.problem, 'correct the definition')
  if (read.vm.uuid.toLowerCase() !== vm.uuid)
    return impossible(
      'other_uuid',
      `the definition has UUID ${read.vm.uuid || 'missing'}, not ${vm.uuid}`,
      'leave the UUID as it is'
    )
  if (read.vm.name !== vm.name)
    return impossible(
      'other_name',
      `the definition calls ${named(vm)} ${named(read.vm)}`,
      'rename it: `taskomatic vm rename`'
    )
  return possible
}

async function edit(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  step('read the definition')
  const { host, vm } = await boundVm(ctx, given.vm)
  if (!vm?.persistent) return failed(notThere(given.vm, host.name))
  const shown = await read(host, given.vm, false)
  const { mark } = readVmXml(shown)
  // The definition of a running guest carries the mark of what defined it last, unlike the guest itself.
  if (!isOurs(ctx, { mark })) {
    const wanted = await wantedXml(ctx, given)
    if (wanted === undefined) return failed(nothingKept(vm.name, host.name))
    if (digestOf(shown) !== wanted.was) return failed(changedSince(vm.name, host.name))
    const secure = await read(host, given.vm, true)
    // Before it is replaced: whoever takes the edit back needs it.
    if (!given.takeBack) await ctx.observe.keepBeforeEdit(given.vm, host.name, secure)
    step('define it')
    const newMark = markOf(ctx, mark)
    await host.defineVm(host.editedXml(wanted.xml, { secure, shown }, newMark))
  }
  step('read it back')
  const now = await read(host, given.vm, false)
  if (!isOurs(ctx, readVmXml(now))) return failed(changedSince(vm.name, host.name))
  return defined(ctx, host, given, { digest: digestOf(now), fromNextBoot: isActive(vm.power) })
}

/** The definition to replace the one with that digest. */
async function wantedXml(ctx: ActionContext, given: Args): Promise<{ xml: string; was: string } | undefined> {
  if (!given.takeBack) return { xml: given.xml ?? '', was: given.was ?? '' }
  const before = await ctx.observe.beforeEdit(given.vm)
  return before && before.editedDigest !== null ? { xml: before.xml, was: before.editedDigest } : undefined
}

const read = (host: Host, uuid: string, secure: boolean) => host.vmXml(uuid, { inactive: true, secure })

async function defined(
  ctx: ActionContext,
  host: Host,
  given: Args,
  result: { digest: string; fromNextBoot?: boolean }
): Promise<Outcome & { outcome: 'complete' }> {
  if (!given.takeBack) await ctx.observe.noteEdited(given.vm, result.digest)
  await ctx.observe.vm(host.name, given.vm)
  return { outcome: 'complete', result: { host: host.name, ...result } }
}

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const { host } = await boundVm(ctx, given.vm)
  const shown = await read(host, given.vm, false)
  const { mark } = readVmXml(shown)
  const evidence = { host: host.name, task: mark?.task ?? null }
  if (!isOurs(ctx, { mark })) return { happened: 'no', evidence }
  const { result } = await defined(ctx, host, given, { digest: digestOf(shown) })
  return { happened: 'yes', evidence, result }
}

const notThere = (uuid: string, host: string) =>
  ownError(
    'vm_not_found',
    `${host} has no definition of VM ${uuid}`,
    'read the definition',
    `\`taskomatic host refresh ${host}\`, then look where it is`,
    { host }
  )

const changedSince = (name: string, host: string) =>
  ownError(
    'definition_changed',
    `the definition of ${named({ name })} on ${host} is another one than the one that was read`,
    'read the definition',
    'read it again and make the change in that one',
    { host }
  )

const nothingKept = (name: string, host: string) =>
  ownError(
    'nothing_kept',
    `no edit of ${named({ name })} is kept that could be taken back`,
    'read the definition',
    'edit it: `taskomatic vm edit`',
    { host }
  )
