// Facts of VMs: what the host said that it runs on, else its home; with each disk recognised as a volume of a store.
import type { Sql } from '../db/open.ts'
import { resource } from '../model/resource.ts'
import type { ObservedVm, VmDisk } from '../model/vm.ts'
import type { PlacedDisk, StartsWithHost, VmFacts, VmNameFacts } from './facts.ts'

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

/** Namespaces of metadata that say what is in the VM, not who manages it. */
const HARMLESS = ['http://libosinfo.org/', 'https://libosinfo.org/', 'https://github.com/cockpit-project/']

/** A pool as a place where disks can be recognised: by its target directory, or by name for disks of kind `volume`. */
export type PoolPlace = { host: string; name: string; store: string; target: string | null }

type VmRow = {
  uuid: string
  name: string
  home: string
  activeOn: string | null
  homeSeen: ObservedVm | null
  homeState: string
  /** Where it is active elsewhere than at home. */
  activeSeen: ObservedVm | null
  observedAt: Date
  elsewhere: VmFacts['elsewhere']
  ours: boolean
  overlaid: string[]
  restorable: boolean
  startsWithHost: StartsWithHost | null
  labels: Record<string, string>
}

export async function loadVms(sql: Sql, parts: string[][]): Promise<Map<string, VmFacts>> {
  const uuids = parts.map((part) => part[0] ?? '').filter((uuid) => UUID.test(uuid))
  const rows = await sql.query<VmRow>(
    `select
       v.uuid, v.name, v.home, v.active_on as "activeOn",
       home.observed as "homeSeen", home.state as "homeState", active.observed as "activeSeen",
       coalesce(active.observed_at, home.observed_at) as "observedAt",
       coalesce((
         select jsonb_object_agg(w.host, w.state)
         from inventory.whereabouts w
         where w.vm = v.uuid and w.host <> v.home and w.host is distinct from v.active_on and w.state <> 'absent'
       ), '{}') as elsewhere,
       coalesce((home.observed #>> '{mark,instance}') = (select i.instance::text from inventory.installation i), false)
         as ours,
       array(
         select d.target from inventory.disk d
         where d.vm = v.uuid and d.host = v.home
           and exists (select from inventory.volume o where o.backing = d.source and o.host = d.host)
       ) as overlaid,
       exists (select from inventory.saved_image s where s.vm = v.uuid and s.host = v.home) as restorable,
       (
         select jsonb_build_object('order', a.start_order, 'delaySeconds', a.delay_seconds)
         from inventory.autostart a where a.vm = v.uuid
       ) as "startsWithHost",
       coalesce((select jsonb_object_agg(l.key, l.value) from inventory.vm_label l where l.vm = v.uuid), '{}') as labels
     from inventory.vm v
     join inventory.whereabouts home on home.vm = v.uuid and home.host = v.home and home.observed is not null
     -- Nearly always at home: its long record need not come twice.
     left join inventory.whereabouts active
       on active.vm = v.uuid and active.host = v.active_on and v.active_on <> v.home
     where v.uuid = any ($1::uuid[]) and v.gone_at is null`,
    [uuids]
  )
  const hosts = new Set(rows.map((row) => row.activeOn ?? row.home))
  const places = new DiskPlaces(await loadPlaces(sql, [...hosts]))
  return new Map(
    rows.flatMap((row) => {
      const facts = toFacts(row, places)
      return facts ? [[resource.vm(row.uuid), facts] as const] : []
    })
  )
}

function toFacts(row: VmRow, places: DiskPlaces): VmFacts | undefined {
  const defined = row.homeSeen
  const seen = row.activeSeen ?? defined
  if (!seen || !defined) return undefined
  const present = row.activeOn !== null || row.homeState === 'defined'
  return {
    uuid: row.uuid,
    name: row.name,
    home: row.home,
    activeOn: row.activeOn,
    power: present ? seen.power : 'off',
    reason: present ? seen.reason : row.homeState,
    persistent: defined.persistent && row.homeState !== 'absent',
    autostart: defined.autostart,
    hasSavedImage: defined.hasSavedImage,
    restorable: defined.hasSavedImage && row.restorable,
    startsWithHost: row.startsWithHost,
    memoryMiB: seen.memoryMiB,
    maxMemoryMiB: seen.maxMemoryMiB,
    vcpus: seen.vcpus,
    disks: seen.disks.map((disk) => places.place(row.activeOn ?? row.home, disk)),
    nics: seen.nics,
    snapshots: defined.snapshots,
    owner: ownerOf(defined, row.ours),
    elsewhere: row.elsewhere,
    ...(row.overlaid.length > 0 ? { overlaid: row.overlaid } : {}),
    labels: row.labels,
    ...(seen.pins ? { pins: seen.pins } : {}),
    job: seen.job,
    observedAt: row.observedAt.toISOString()
  }
}

function ownerOf(vm: ObservedVm, ours: boolean): VmFacts['owner'] {
  if (ours) return 'ours'
  // Marked by another installation of ours: it has a manager as well.
  if (vm.mark) return 'foreign'
  return vm.foreignMetadata.some((name) => !HARMLESS.some((prefix) => name.startsWith(prefix))) ? 'foreign' : 'plain'
}

export async function loadVmNames(sql: Sql, parts: string[][]): Promise<Map<string, VmNameFacts>> {
  const rows = await sql.query<{ name: string; homes: VmNameFacts }>(
    `select v.name, jsonb_object_agg(v.uuid, v.home) as homes
     from inventory.vm v where v.name = any ($1::text[]) and v.gone_at is null
     group by v.name`,
    [parts.map((part) => part[0])]
  )
  return new Map(rows.map((row) => [resource.vmName(row.name), row.homes]))
}

async function loadPlaces(sql: Sql, hosts: string[]): Promise<PoolPlace[]> {
  if (hosts.length === 0) return []
  return sql.query<PoolPlace>(`select host, name, store, target from inventory.pool where host = any ($1::text[])`, [
    hosts
  ])
}

/** Recognises disks as volumes by the pools of the host that the VM is on. */
class DiskPlaces {
  readonly #byTarget = new Map<string, string>()
  readonly #byName = new Map<string, string>()

  constructor(pools: readonly PoolPlace[]) {
    for (const pool of pools) {
      this.#byName.set(`${pool.host}\0${pool.name}`, pool.store)
      if (pool.target !== null) this.#byTarget.set(`${pool.host}\0${pool.target}`, pool.store)
    }
  }

  place(host: string, disk: VmDisk): PlacedDisk {
    const cut = disk.source?.lastIndexOf('/') ?? -1
    if (disk.source === null || cut < 0) return { ...disk, store: null, volume: null }
    const [above, volume] = [disk.source.slice(0, cut), disk.source.slice(cut + 1)]
    const known = disk.kind === 'volume' ? this.#byName : this.#byTarget
    const store = known.get(`${host}\0${above}`)
    return { ...disk, store: store ?? null, volume: store === undefined ? null : volume }
  }
}
