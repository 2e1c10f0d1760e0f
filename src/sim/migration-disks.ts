// Storage migration: disks that the target lacks are made there, in the pool that has their directory.

import { pathOf } from './disks.ts'
import type { DomainDef } from './domain-xml.ts'
import type { SimHost } from './host.ts'
import { refuse } from './refusal.ts'

export function copyMissingDisks(host: SimHost, def: DomainDef): void {
  for (const disk of def.disks) {
    const path = disk.readOnly ? null : pathOf(host, disk)
    if (path === null || host.file(path)) continue
    const directory = path.slice(0, path.lastIndexOf('/'))
    const pool = [...host.pools.values()].find((other) => other.active && other.def.target === directory)
    if (!pool) throw refuse('NO_STORAGE_POOL', 'STORAGE', `no storage pool with matching target path '${directory}'`)
    const { store, inner } = host.locate(path)
    const name = path.slice(directory.length + 1)
    store.create(inner, { format: 'raw', capacityBytes: 0n })
    pool.volumes.set(name, path)
    host.note('volume_created', { uuid: path, name }, { detail: 'for an arriving guest' })
  }
}
