// Adds a host: connects, learns which machine it is, records it and everything that it has.
// A host is its machine's UUID; the name is a label. One machine is not added twice; added again, it gets the new addresses.
import { Type, type Static } from 'typebox'
import { HostError } from '../host/error.ts'
import type { HostFacts } from '../inventory/facts.ts'
import { InventoryError } from '../inventory/error.ts'
import { resource } from '../model/resource.ts'
import {
  action,
  complete,
  failed,
  nothingToDo,
  possible,
  type ActionContext,
  type Outcome,
  type Probe
} from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { errorOf, ownError } from './error.ts'
import { newName } from './refs.ts'
import { exclusive } from './vm-place.ts'

const uri = (description: string, pattern: string, rule: string) =>
  Type.String({ description, minLength: 1, maxLength: 1024, pattern, 'x-rule': rule })

const libvirtUri =
  '^(qemu|test|xen|ch|lxc|bhyve|vz)(\\+[a-z]+)?://[^\\s\\x00-\\x1f@]*$|^(qemu|test|xen|ch|lxc|bhyve|vz)(\\+[a-z]+)?://[^\\s\\x00-\\x1f@:/]+@[^\\s\\x00-\\x1f@]*$'

const args = Type.Object(
  {
    host: newName('host', 'Name of the host, unlike that of any other'),
    controlUri: uri(
      'How this server reaches its libvirtd, e.g. qemu+tls://h1/system, qemu+ssh://root@h1/system or qemu+unix:///system?socket=PATH',
      libvirtUri,
      'a libvirt URI, like qemu+tls://h1/system, without a password'
    ),
    peerUri: Type.Optional(
      uri(
        'How other hosts reach its libvirtd for migration; default the control URI, unless that is a local socket',
        libvirtUri,
        'a libvirt URI, like qemu+tls://h1/system'
      )
    ),
    migrationUri: Type.Optional(
      uri(
        "Network for a migration's memory stream, e.g. tcp://10.0.0.1; default libvirt's choice",
        '^(tcp|rdma)://[^\\s\\x00-\\x1f@/]+$',
        'written like tcp://10.0.0.1'
      )
    )
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

export const hostAdd = action({
  name: 'host.add',
  summary: 'Add a host, or change its addresses',
  args,
  title: ({ host }) => `Add host ${host}`,
  claims: ({ host }) => [exclusive(resource.host(host))],
  check(given, state) {
    const facts = state.host(given.host)
    if (!facts) return possible
    const same =
      facts.controlUri === given.controlUri &&
      facts.peerUri === peerUriOf(given) &&
      facts.migrationUri === (given.migrationUri ?? null)
    // Other addresses for a known name are recorded, if the same machine answers there: the run looks.
    return same ? nothingToDo(`${given.host} is there already`) : possible
  },
  effect: (given) => [{ subject: resource.host(given.host), facts: predicted(given) }],
  run: (ctx, given) => attempt(ctx, (step) => add(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo: ({ host }) => ({ action: 'host.remove', args: { host, forget: true } })
})

const predicted = (given: Args): HostFacts => ({
  name: given.host,
  uuid: null,
  controlUri: given.controlUri,
  peerUri: peerUriOf(given),
  migrationUri: given.migrationUri ?? null,
  connection: 'unknown',
  connectionReason: null,
  cordoned: false,
  cordonReason: null,
  inMaintenance: false,
  maintenanceSince: null,
  confirmedOff: null,
  unreconciled: false,
  arch: null,
  domainType: null,
  emulator: null,
  machine: null,
  cpus: 0,
  memoryMiB: 0,
  definitions: 0,
  activeVms: 0,
  committedMiB: 0
})

/** A local socket says nothing to another host; every other control URI does, unless another peer URI is given. */
export function peerUriOf({ controlUri, peerUri }: { controlUri: string; peerUri?: string }): string | null {
  if (peerUri !== undefined) return peerUri
  const [, transport, host] = /^[a-z]+(?:\+([a-z]+))?:\/\/([^/?]*)/.exec(controlUri) ?? []
  return transport === undefined || transport === 'unix' || !host ? null : controlUri
}

async function add(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  step('connect')
  const identity = await identify(ctx, given)
  if ('outcome' in identity) return identity
  step('record the host')
  try {
    await ctx.observe.addHost({
      name: given.host,
      uuid: identity.uuid,
      controlUri: given.controlUri,
      peerUri: peerUriOf(given),
      migrationUri: given.migrationUri ?? null,
      by: ctx.task.by
    })
  } catch (error) {
    if (error instanceof InventoryError && error.code === 'duplicate_host')
      return failed(duplicate(error, identity.uuid))
    throw error
  }
  step('list what it has')
  await ctx.observe.host(given.host)
  return complete({
    host: given.host,
    uuid: identity.uuid,
    libvirt: identity.libvirtVersion,
    hostname: identity.hostname
  })
}

/** A host that cannot be reached is not added: the address may be wrong, and waiting would not mend it. */
async function identify(ctx: ActionContext, given: Args) {
  try {
    const connection = await ctx.connect({ name: given.host, controlUri: given.controlUri })
    try {
      return await connection.host.identify()
    } finally {
      await connection.close()
    }
  } catch (error) {
    if (!(error instanceof HostError) || error.code === 'fenced') throw error
    const told = errorOf(
      error,
      'connect',
      'check the address, the certificate or key, and that libvirtd listens there; then add the host again'
    )
    return failed({ ...told, message: `${given.host} cannot be reached at ${given.controlUri}: ${told.message}` })
  }
}

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  try {
    const identity = await ctx.host(given.host).identify()
    await ctx.observe.host(given.host)
    return { happened: 'yes', evidence: { uuid: identity.uuid }, result: { host: given.host, uuid: identity.uuid } }
  } catch (error) {
    if (!(error instanceof HostError) || error.code === 'fenced') throw error
    // Not recorded, or recorded and not looked at: adding is harmless to repeat.
    return { happened: 'no', evidence: { code: error.code } }
  }
}

const duplicate = (error: InventoryError, uuid: string) =>
  ownError(
    'host_exists',
    error.message,
    'record the host',
    'use the host under its present name, or remove it there first; cloned machines need host_uuid in libvirtd.conf',
    { uuid }
  )
