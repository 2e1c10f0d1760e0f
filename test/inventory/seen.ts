// What hosts might say, for tests: complete observations of which a test names only what it is about.
import { randomUUID } from 'node:crypto'
import type { Sql } from '../../src/db/open.ts'
import { addHost } from '../../src/inventory/hosts.ts'
import { beginSight, recordHost, recordSights, type Sight, type VmChange } from '../../src/inventory/observe.ts'
import { allWhereabouts, bindAllWhereabouts, type Whereabouts } from '../../src/inventory/whereabouts.ts'
import type { HostConnection, HostIdentity } from '../../src/model/host.ts'
import type { ObservedPool, ObservedVolume } from '../../src/model/storage.ts'
import type { ObservedVm, VmDisk } from '../../src/model/vm.ts'

export function seenVm(vm: Partial<ObservedVm> & { name: string }): ObservedVm {
  return {
    uuid: randomUUID(),
    power: 'off',
    reason: 'unknown',
    persistent: true,
    autostart: false,
    hasSavedImage: false,
    memoryMiB: 1024,
    maxMemoryMiB: 1024,
    vcpus: 1,
    disks: [],
    nics: [],
    snapshots: [],
    mark: null,
    foreignMetadata: [],
    job: null,
    ...vm
  }
}

export function seenDisk(source: string, disk: Partial<VmDisk> = {}): VmDisk {
  return {
    target: 'vda',
    device: 'disk',
    kind: 'file',
    source,
    format: 'qcow2',
    bus: 'virtio',
    readOnly: false,
    shareable: false,
    ...disk
  }
}

export function seenPool(pool: Partial<ObservedPool> & { name: string }): ObservedPool {
  return {
    uuid: randomUUID(),
    type: 'dir',
    target: `/pools/${pool.name}`,
    source: null,
    active: true,
    persistent: true,
    autostart: true,
    capacityBytes: 1000,
    allocationBytes: 400,
    availableBytes: 600,
    volumes: [],
    ...pool
  }
}

export function seenVolume(path: string, volume: Partial<ObservedVolume> = {}): ObservedVolume {
  return {
    name: path.slice(path.lastIndexOf('/') + 1),
    path,
    format: 'qcow2',
    capacityBytes: 100,
    allocationBytes: 10,
    backing: null,
    ...volume
  }
}

function identity(uuid: string, host: Partial<HostIdentity> = {}): HostIdentity {
  return {
    uuid,
    hostname: 'machine',
    libvirtVersion: '9.0.0',
    hypervisorVersion: '7.2.0',
    arch: 'x86_64',
    cpus: 8,
    memoryMiB: 16_384,
    bootTime: 1_700_000_000,
    domainType: 'kvm',
    emulator: '/usr/bin/qemu-system-x86_64',
    machine: 'pc',
    ...host
  }
}

/** A host that was added and has said what it is. */
export async function knownHost(sql: Sql, name: string, host: Partial<HostIdentity> = {}): Promise<string> {
  const uuid = randomUUID()
  await addHost(sql, {
    name,
    uuid,
    controlUri: `qemu+tls://${name}/system`,
    peerUri: null,
    migrationUri: null,
    by: 'op'
  })
  await recordHost(sql, await beginSight(sql), name, identity(uuid, host))
  return uuid
}

/** One look-up of one VM; undefined = the host says that it has no such VM. */
export const recordVm = (
  sql: Sql,
  sight: Sight,
  host: string,
  vm: string,
  seen: ObservedVm | undefined
): Promise<VmChange[]> => recordSights(sql, [{ ...sight, host, vm, seen }])

export const whereabouts = async (sql: Sql, uuid: string): Promise<Whereabouts> =>
  (await allWhereabouts(sql, [uuid]))[0] ?? []

export const bindWhereabouts = (sql: Sql, uuid: string, host: string): Promise<void> =>
  bindAllWhereabouts(sql, [{ uuid, host }])

/** As its watcher says it (inventory.set_watched_connection), of a host that nobody watches. */
export async function setConnection(
  sql: Sql,
  host: string,
  connection: HostConnection,
  reason: string | null
): Promise<void> {
  await sql.query(
    `update inventory.host set connection_since = clock_timestamp(), connection = $2, connection_reason = $3 where name = $1`,
    [host, connection, reason]
  )
}
