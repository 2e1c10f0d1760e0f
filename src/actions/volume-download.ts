// Reads a volume for a client that waits for its bytes: they flow while the task runs, through nobody's disk, and the task's claims
// keep writers away meanwhile. Nothing changes, so that what is cut off is simply asked for again.
import { createHash } from 'node:crypto'
import { Type, type Static } from 'typebox'
import { quote } from '../model/name.ts'
import { resource } from '../model/resource.ts'
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
import { limit, oneOf } from './limits.ts'
import { splitVolume, VolumeRef } from './refs.ts'
import { hostClaim, poolClaimsOn, shared } from './vm-place.ts'
import { attemptFlow, tellBytes } from './volume-flow.ts'
import { findVolume, handleOn, refuseStore, workingHost } from './volume-place.ts'
import { namesOf, readHostsOf, volumeUsersNow } from './volume-use.ts'

/** Whoever asked has this long to come for the bytes. */
const comeMs = 60_000

const args = Type.Object(
  {
    volume: VolumeRef,
    download: Type.String({
      description: 'A UUID of your choice: the bytes are had from GET /downloads/UUID',
      pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$',
      maxLength: 36,
      'x-rule': 'a UUID in lower case'
    })
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

export const volumeDownload = action({
  name: 'volume.download',
  summary: 'Read a volume for a client that waits for its bytes',
  args,
  title: ({ volume }) => `Download volume ${volume}`,
  claims({ volume: id }, state) {
    const { store, volume } = splitVolume(id)
    readHostsOf(state, store)
    // Of a VM's disk nobody may start to write while it is read.
    const isUsed = (state.volume(store, volume)?.usedBy ?? []).length > 0
    return [
      shared(resource.store(store)),
      { resource: resource.volume(store, volume), mode: isUsed ? 'exclusive' : 'shared' },
      ...hostClaim(state),
      ...poolClaimsOn(state, [store], state.boundHost)
    ]
  },
  limits: ({ volume }) => oneOf(limit.storage(splitVolume(volume).store)),
  check({ volume: id }, state) {
    const { store, volume } = splitVolume(id)
    const refusal = refuseStore(state, store, state.boundHost ?? undefined)
    if (refusal) return refusal
    const facts = state.volume(store, volume)
    if (!facts) {
      return impossible(
        'volume_not_found',
        `there is no volume ${quote(id)}`,
        `see \`taskomatic volume list --store ${store}\``
      )
    }
    const running = facts.usedBy.map((uuid) => state.vm(uuid)).find((vm) => vm !== undefined && vm.activeOn !== null)
    return running ? impossible('volume_in_use', inUse(id, quote(running.name)), 'stop the VM first') : possible
  },
  effect: () => [],
  bindTo({ volume }, state) {
    const host = workingHost(state, splitVolume(volume).store)
    return host === undefined ? null : { host }
  },
  run: (ctx, given) => attemptFlow(ctx, (step) => download(ctx, given, step), { probe }),
  probe,
  undo: () => ({ impossible: 'reading changes nothing' })
})

const inUse = (volume: string, by: string) =>
  `volume ${quote(volume)} is written to by ${by}: what is read meanwhile would be of no moment`

async function download(ctx: ActionContext, { volume: id, download: to }: Args, step: Step): Promise<Outcome> {
  const { store, volume } = splitVolume(id)
  const { host, pool } = handleOn(ctx, store)
  step('look at the volume')
  const found = await findVolume(host, pool, volume)
  if (!found)
    return failed(
      ownError(
        'volume_not_found',
        `there is no volume ${quote(id)} on ${host.name}`,
        'look at the volume',
        '`taskomatic pool refresh`, then look at its volumes'
      )
    )
  const users = await volumeUsersNow(ctx, store, volume, { defined: false })
  if (users.length > 0)
    return failed(ownError('volume_in_use', inUse(id, namesOf(users)), 'look at the volume', 'stop the VM first'))
  step('send the bytes')
  const hash = createHash('sha256')
  let bytes = 0
  const tell = tellBytes(ctx, found.format === 'raw' ? found.capacityBytes : null, 'read')
  const source = (async function* () {
    for await (const chunk of host.downloadVolume(pool, volume, { signal: ctx.signal })) {
      hash.update(chunk)
      bytes += chunk.length
      tell(bytes)
      yield chunk
    }
  })()
  await ctx.staging.downloads.give(to, source, { timeoutMs: comeMs, signal: ctx.signal })
  return complete({ volume: id, bytes, sha256: hash.digest('hex'), format: found.format })
}

/** A look leaves no trace: it is done again, and finds nobody who waits. */
async function probe(): Promise<Probe> {
  return { happened: 'no', evidence: null }
}
