// A guest's disks while it runs: they must be there, are locked as QEMU locks images, and are watched for a second writer.

import type { SimDomain } from './domain.ts'
import type { DomainDef, DomainDisk } from './domain-xml.ts'
import type { SimHost } from './host.ts'
import { refuse } from './refusal.ts'
import type { Opener } from './store.ts'

/** Path of a disk on its host; a volume by pool and name is translated. Null for an empty drive or a network disk. */
export function pathOf(host: SimHost, disk: DomainDisk): string | null {
  if (disk.kind === 'network') return null
  if (!disk.volume) return disk.source
  const pool = host.pools.get(disk.volume.pool)
  if (!pool) throw refuse('NO_STORAGE_POOL', 'STORAGE', `no storage pool with matching name '${disk.volume.pool}'`)
  if (!pool.active) throw refuse('OPERATION_INVALID', 'STORAGE', `storage pool '${disk.volume.pool}' is not active`)
  const path = pool.volumes.get(disk.volume.name)
  if (path === undefined)
    throw refuse('NO_STORAGE_VOL', 'STORAGE', `no storage vol with matching name '${disk.volume.name}'`)
  return path
}

/** Every image that the definition needs is on this host. */
export function checkDisks(host: SimHost, def: DomainDef): void {
  for (const disk of def.disks) {
    let path = pathOf(host, disk)
    for (let depth = 0; path !== null && depth < 64; depth++) {
      const file = host.file(path)
      if (!file)
        throw refuse('SYSTEM_ERROR', 'STORAGE', `Cannot access storage file '${path}': No such file or directory`)
      path = file.backing?.path ?? null
    }
  }
}

const writable = (def: DomainDef): readonly DomainDisk[] => def.disks.filter((disk) => !disk.readOnly)

const openerOf = (host: SimHost, domain: SimDomain): Opener => ({
  host: host.name,
  uuid: domain.uuid,
  name: domain.name
})

/** Opens every writable disk, or none: the first that is locked elsewhere refuses all. */
export function openDisks(host: SimHost, domain: SimDomain, def: DomainDef): void {
  const opener = openerOf(host, domain)
  const opened: { close: () => void }[] = []
  try {
    for (const disk of writable(def)) {
      const place = placeOf(host, disk)
      if (!place) continue
      place.store.open(place.inner, opener, disk.shareable)
      opened.push({ close: () => place.store.close(place.inner, opener) })
    }
  } catch (error) {
    for (const { close } of opened) close()
    throw error
  }
  domain.holdsDisks = true
}

export function closeDisks(host: SimHost, domain: SimDomain): void {
  if (!domain.live) return
  const opener = openerOf(host, domain)
  for (const disk of writable(domain.live)) {
    const place = placeOf(host, disk)
    place?.store.close(place.inner, opener)
  }
  domain.holdsDisks = false
}

/** Tells the detector that the guest's processors run, or no longer run. */
export function setWriting(host: SimHost, domain: SimDomain, writing: boolean): void {
  if (!domain.live || !domain.holdsDisks) return
  const opener = openerOf(host, domain)
  for (const disk of writable(domain.live)) {
    const place = placeOf(host, disk)
    place?.store.setWriting(place.inner, opener, writing, disk.shareable)
  }
}

// A network disk is a file of the store that its source names: two hosts that use it meet there.
function placeOf(host: SimHost, disk: DomainDisk): ReturnType<SimHost['locate']> | undefined {
  if (disk.kind === 'network')
    return disk.source === null ? undefined : { store: host.world.remoteStore('network disks'), inner: disk.source }
  let path: string | null
  try {
    path = pathOf(host, disk)
  } catch {
    return undefined
  }
  return path === null ? undefined : host.locate(path)
}
