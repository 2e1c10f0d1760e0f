// Guests for a simulated fleet to begin with: defined evenly over the hosts, each with a disk on a store.

import { uuidOf } from './host.ts'
import type { SimFleet } from './fleet.ts'
import { SimDomain } from './domain.ts'
import { keepDefinition } from './domain-rules.ts'
import { type DomainDef, defineDomain } from './domain-xml.ts'
import { boot } from './lifecycle.ts'

export type Population = {
  vms: number
  /** Of each guest; default 1024. */
  memoryMiB?: number
  /** A shared store by name, or each host's own where not given. */
  store?: { name: string; path: string }
  /** Names are PREFIX1, PREFIX2 …; default `vm`. */
  prefix?: string
  /** Whether they run; default false. */
  running?: boolean
}

const diskBytes = 10n * 1024n ** 3n
const localPath = '/var/lib/libvirt/images'

/** Defines guests without a client, so that a large fleet is there in a moment. UUIDs follow from the names. */
export async function populate(fleet: SimFleet, population: Population): Promise<void> {
  const { vms, memoryMiB = 1024, store, prefix = 'vm', running = false } = population
  const pattern = defineDomain(guestXml(memoryMiB), { validate: true })
  for (let index = 0; index < vms; index++) {
    const host = fleet.hosts[index % fleet.hosts.length]
    if (!host) return
    const name = `${prefix}${index + 1}`
    const path = `${store?.path ?? localPath}/${name}.qcow2`
    const place = host.locate(path)
    place.store.makeDirectory(place.inner.slice(0, place.inner.lastIndexOf('/')) || '/')
    place.store.create(place.inner, { format: 'qcow2', capacityBytes: diskBytes, allocationBytes: 200_704n })
    const def = likePattern(pattern, name, path)
    const domain = keepDefinition(host, new SimDomain(def.uuid, name), def)
    if (running) await boot(host, domain, def, { paused: false })
  }
}

const patternOf = {
  name: 'pattern',
  uuid: '00000000-0000-4000-8000-000000000000',
  path: '/pattern',
  mac: '52:54:00:00:00:00'
}

// Parsing is what takes the time of a definition: it is done once for all guests.
function likePattern(pattern: DomainDef, name: string, path: string): DomainDef {
  const uuid = uuidOf(`guest ${name}`)
  const mac = `52:54:${[0, 2, 4, 6].map((at) => uuid.slice(at, at + 2)).join(':')}`
  const xml = pattern.xml
    .replace(`<name>${patternOf.name}<`, `<name>${name}<`)
    .replace(patternOf.uuid, uuid)
    .replace(`'${patternOf.path}'`, `'${path}'`)
    .replace(patternOf.mac, mac)
  return { ...pattern, name, uuid, xml, disks: pattern.disks.map((disk) => ({ ...disk, source: path })) }
}

const guestXml = (memoryMiB: number): string => `<domain type='kvm'>
  <name>${patternOf.name}</name><uuid>${patternOf.uuid}</uuid>
  <memory unit='MiB'>${memoryMiB}</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='${patternOf.path}'/><target dev='vda' bus='virtio'/></disk>
    <interface type='network'><mac address='${patternOf.mac}'/><source network='default'/><model type='virtio'/></interface>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
  </devices>
</domain>`
