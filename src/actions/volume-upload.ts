// Brings bytes that a client sent to a host as a volume. They wait with the server (src/staging), whole and checked, so that the task
// can be tried again whatever dies. Until the host has them all the volume carries this task's marker and is made again; what makes
// it whole is its checksum.
import { Type, type Static } from 'typebox'
import { HostError } from '../host/error.ts'
import type { Host } from '../host/host.ts'
import { quote } from '../model/name.ts'
import { resource } from '../model/resource.ts'
import type { ObservedVolume } from '../model/storage.ts'
import {
  action,
  complete,
  failed,
  impossible,
  possible,
  type ActionContext,
  type Outcome,
  type Probe
} from './action.ts'
import type { Step } from './attempt.ts'
import { ownError } from './error.ts'
import { refuseChangeOfImage } from './image-use.ts'
import { limit, oneOf } from './limits.ts'
import { dropMarker, isMarked, makeVolume, markVolume, unmakeVolume, VolumeTaken } from './new-volume.ts'
import { newName, StoreRef } from './refs.ts'
import { refuseTooLarge } from './store-room.ts'
import { exclusive, hostClaim, poolClaimsOn } from './vm-place.ts'
import { attemptFlow, checksumOf, tellBytes } from './volume-flow.ts'
import { findVolume, handleOn, refuseOverlaid, refuseStore, storeWork, tellPools, workingHost } from './volume-place.ts'
import { readHostsOf, refuseSavedUser, refuseSavedUserNow, refuseUsedVolume, VolumeInUse } from './volume-use.ts'
import { putBack } from './put-back.ts'

const sectorBytes = 512
/** Stores whose volumes are devices: what is in them has no format of its own that a host would look at. */
const devices: ReadonlySet<string> = new Set(['logical', 'iscsi', 'iscsi-direct', 'disk', 'rbd', 'scsi', 'mpath'])

const args = Type.Object(
  {
    store: StoreRef,
    name: newName('volume', 'Name of the volume'),
    upload: Type.String({
      description: 'The bytes, sent before: `upload` of what POST /uploads answered',
      pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$',
      maxLength: 36,
      'x-rule': 'a UUID in lower case'
    }),
    bytes: Type.Integer({ description: 'Their number', minimum: 1, maximum: 2 ** 53 - 1 }),
    sha256: Type.String({
      description: 'Their SHA-256 in hex',
      pattern: '^[0-9a-f]{64}$',
      maxLength: 64,
      'x-rule': '64 hex digits in lower case'
    }),
    format: Type.Union([Type.Literal('raw'), Type.Literal('qcow2')], { description: 'What they are' }),
    capacityBytes: Type.Integer({ description: 'Size of the disk that they are', minimum: 0, maximum: 2 ** 53 - 1 }),
    replace: Type.Optional(
      Type.Boolean({ description: 'Put them in place of a volume that is there; default false', default: false })
    ),
    verify: Type.Optional(
      Type.Boolean({
        description: 'Read them back from the host and compare their checksum; default false',
        default: false
      })
    )
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

export const volumeUpload = action({
  name: 'volume.upload',
  summary: 'Bring bytes that were sent to a host as a volume',
  args,
  title: ({ store, name, replace }) => `${replace ? 'Replace' : 'Upload'} volume ${store}/${name}`,
  claims({ store, name }, state) {
    readHostsOf(state, store)
    return [
      storeWork(state, store),
      exclusive(resource.volume(store, name)),
      ...hostClaim(state),
      ...poolClaimsOn(state, [store], state.boundHost)
    ]
  },
  limits: ({ store }) => oneOf(limit.storage(store)),
  check(given, state) {
    const refusal = refuseStore(state, given.store, state.boundHost ?? undefined)
    if (refusal) return refusal
    const type = state.store(given.store)?.type ?? ''
    if (given.format !== 'raw' && devices.has(type)) {
      return impossible(
        'bad_format',
        `store ${quote(given.store)} is ${type}, whose volumes are raw: a ${given.format} image in one would be no disk`,
        'convert the image: `qemu-img convert -O raw`'
      )
    }
    const facts = state.volume(given.store, given.name)
    const image = refuseChangeOfImage(state, given.store, given.name)
    if (image) return image
    // The bytes are what they are, whatever they are the image of.
    const full = refuseTooLarge(state, given.store, { format: 'raw', capacityBytes: given.bytes })
    if (full) return full
    if (!facts) return possible
    const saved = given.replace ? refuseSavedUser(state, given.store, given.name) : undefined
    if (saved) return saved
    if (state.phase === 'starting') return possible
    if (!given.replace) {
      return impossible(
        'volume_exists',
        `there is a volume ${quote(`${given.store}/${given.name}`)} already`,
        'choose another name, or put it in its place with `--replace`'
      )
    }
    const running = facts.usedBy.map((uuid) => state.vm(uuid)).find((vm) => vm !== undefined && vm.activeOn !== null)
    if (!running) return possible
    return impossible(
      'volume_in_use',
      `${quote(running.name)} runs with volume ${quote(`${given.store}/${given.name}`)}`,
      'stop the VM first'
    )
  },
  effect(given, state) {
    const target = Object.values(state.store(given.store)?.pools ?? {}).find((pool) => pool?.target)?.target
    const before = state.volume(given.store, given.name)
    const { store, name, format, capacityBytes, bytes } = given
    const path = target ? `${target}/${name}` : ''
    return [
      {
        subject: resource.volume(store, name),
        facts: {
          store,
          name,
          path,
          format,
          capacityBytes,
          allocationBytes: bytes,
          backing: null,
          usedBy: before?.usedBy ?? []
        }
      }
    ]
  },
  bindTo({ store }, state) {
    const host = workingHost(state, store)
    return host === undefined ? null : { host }
  },
  makesVolumes: ({ store, name, bytes }) => [{ store, volume: name, format: 'raw', capacityBytes: bytes }],
  run: (ctx, given) => attemptFlow(ctx, (step) => upload(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo: ({ store, name, replace }) =>
    replace
      ? { impossible: 'what was replaced is gone' }
      : { action: 'volume.delete', args: { volume: `${store}/${name}` } }
})

const idOf = ({ store, name }: Args): string => `${store}/${name}`

async function upload(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  step('look at the bytes that were sent')
  const staged = await ctx.staging.uploads.find(given.upload)
  if (!staged) return failed(gone(given))
  if (staged.bytes !== given.bytes || staged.sha256 !== given.sha256 || staged.format !== given.format)
    return failed(other(given))
  const { host, pool } = handleOn(ctx, given.store)
  const place = { pool, name: given.name }
  step('look at the volume')
  const refused = await makeWay(ctx, host, place, given)
  if (refused) return refused
  try {
    step('make the volume')
    const capacityBytes = Math.ceil(given.bytes / sectorBytes) * sectorBytes
    // Raw whatever it becomes: the host sees the format in the bytes once they are there.
    await makeVolume(ctx, host, { ...place, format: 'raw', capacityBytes, from: null })
    step('send the bytes')
    await send(ctx, host, place, given)
    if (given.verify) {
      step('read the bytes back')
      await compare(ctx, host, place, given)
    }
    step('let the host see what it is')
    await host.refreshPool(place.pool)
    step('give it free')
    await dropMarker(ctx, host, place)
  } catch (error) {
    if (error instanceof VolumeTaken) return failed(taken(given, host.name))
    await tidy(ctx, host, place, error)
    throw error
  }
  return finish(ctx, host, place, given, step)
}

/** What is there is put out of the way only if that was asked, and no guest of any host writes to it. */
async function makeWay(
  ctx: ActionContext,
  host: Host,
  place: { pool: string; name: string },
  given: Args
): Promise<Outcome | undefined> {
  const before = await findVolume(host, place.pool, place.name)
  if (!before) return undefined
  const isOurs = await isMarked(ctx, host, place)
  if (!isOurs && !given.replace) return failed(taken(given, host.name))
  try {
    await refuseOverlaid(host, place.pool, before)
    const saved = await refuseSavedUserNow(ctx, given.store, given.name)
    if (saved) return saved
    await refuseUsedVolume(ctx, given.store, given.name, { defined: false })
  } catch (error) {
    if (!(error instanceof VolumeInUse)) throw error
    return failed(ownError('volume_in_use', error.message, 'look at the volume', 'stop the VM first'))
  }
  await markVolume(ctx, host, place)
  return undefined
}

async function send(
  ctx: ActionContext,
  host: Host,
  { pool, name }: { pool: string; name: string },
  given: Args
): Promise<void> {
  const sent = await host.uploadVolume(pool, name, ctx.staging.uploads.read(given.upload), {
    size: given.bytes,
    signal: ctx.signal,
    onProgress: tellBytes(ctx, given.bytes, 'sent')
  })
  if (sent.sha256 !== given.sha256)
    throw new HostError('bad_input', host.name, `what waited for ${idOf(given)} has changed on the server's disk`)
}

async function compare(
  ctx: ActionContext,
  host: Host,
  { pool, name }: { pool: string; name: string },
  { bytes, sha256 }: Args
): Promise<void> {
  const onBytes = tellBytes(ctx, bytes, 'read back')
  const found = await checksumOf(host, pool, name, { bytes, signal: ctx.signal, onBytes })
  if (found !== sha256)
    throw new HostError('bad_input', host.name, `${host.name} has other bytes than were sent: SHA-256 ${found}`)
}

/** After a refusal nothing is to be left. After a lost answer the marker tells the next attempt what it finds. */
async function tidy(
  ctx: ActionContext,
  host: Host,
  place: { pool: string; name: string },
  error: unknown
): Promise<void> {
  if (error instanceof HostError && !['refused', 'aborted', 'bad_input'].includes(error.code)) return
  await putBack(ctx, `volume ${place.name} may be left in part`, () => unmakeVolume(ctx, host, place))
}

async function finish(
  ctx: ActionContext,
  host: Host,
  place: { pool: string; name: string },
  given: Args,
  step: Step
): Promise<Outcome> {
  step('look what it is')
  const volume = await host.volume(place.pool, place.name)
  if (!volume) return failed(lost(given, host.name))
  await tellPools(ctx, given.store, host.name)
  await ctx.staging.uploads.remove(given.upload)
  return complete(resultOf(given, volume))
}

const resultOf = (given: Args, volume: ObservedVolume) => ({
  volume: idOf(given),
  path: volume.path,
  bytes: given.bytes,
  sha256: given.sha256,
  format: volume.format,
  capacityBytes: volume.capacityBytes
})

/** The bytes themselves are the proof: another volume of that name may have been there before. */
async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const { host, pool } = handleOn(ctx, given.store)
  const volume = await findVolume(host, pool, given.name)
  const marked = await isMarked(ctx, host, { pool, name: given.name })
  const evidence = { host: host.name, pool, there: volume !== undefined, marked }
  if (!volume || marked) return { happened: 'no', evidence }
  const found = await checksumOf(host, pool, given.name, { bytes: given.bytes })
  if (found !== given.sha256) return { happened: 'no', evidence: { ...evidence, sha256: found } }
  await ctx.observe.pool(host.name, pool)
  await ctx.staging.uploads.remove(given.upload)
  return { happened: 'yes', evidence, result: resultOf(given, volume) }
}

const again = 'send the bytes again: `taskomatic volume upload`'

const gone = (given: Args) =>
  ownError(
    'upload_gone',
    `the bytes that were sent for ${quote(idOf(given))} are not here: they are kept for a day, by the server that took them`,
    'look at the bytes that were sent',
    again
  )

const other = (given: Args) =>
  ownError(
    'upload_differs',
    `what was sent as ${given.upload} is not what the task speaks of`,
    'look at the bytes that were sent',
    'use what POST /uploads answered'
  )

const taken = (given: Args, host: string) =>
  ownError(
    'volume_exists',
    `there is a volume ${quote(idOf(given))} on ${host} already`,
    'look at the volume',
    'choose another name, or put it in its place with `--replace`',
    { host }
  )

const lost = (given: Args, host: string) =>
  ownError(
    'volume_not_found',
    `volume ${quote(idOf(given))} was made on ${host} and is not there`,
    'look what it is',
    'look at the host, then retry the task',
    { host }
  )
