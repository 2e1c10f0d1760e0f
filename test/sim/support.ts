// Fleets in a folder of their own, and the real virsh against them.

import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, type OpenConnection } from '../../src/libvirt/connect.ts'
import type { Domain } from '../../src/libvirt/wire.gen.ts'
import { type FleetHost, type SimFleet, type SimFleetOptions, startSimFleet } from '../../src/sim/fleet.ts'

export const whyNoVirsh = (): string | undefined =>
  existsSync('/usr/bin/virsh') ? undefined : 'virsh is not installed (apt-get install libvirt-clients)'

/** Runs `use` with a fleet of hosts; it is stopped whatever happens. A store `nfs` is shared at /shared. */
export async function withFleet(
  options: Partial<SimFleetOptions>,
  use: (fleet: SimFleet) => Promise<void>
): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'sim-'))
  const fleet = await startSimFleet({ hosts: 2, sharedStores: [{ name: 'nfs', path: '/shared' }], ...options, dir })
  try {
    await use(fleet)
  } finally {
    await fleet.stop()
    rmSync(dir, { recursive: true, force: true })
  }
}

export type Ran = { code: number; out: string }

/** Runs virsh against a host; stdout and stderr together, as a person sees them, without the line ends around. */
export function virsh(host: { uri: string }, ...args: string[]): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(
      'virsh',
      ['-c', host.uri, ...args],
      { timeout: 20_000, env: { ...process.env, LC_ALL: 'C' } },
      (error, stdout, stderr) => {
        const code = error ? (typeof error.code === 'number' ? error.code : -1) : 0
        resolve({ code, out: (stdout + stderr).trim() })
      }
    )
  })
}

/** Runs `use` with a connection of our own client. */
export async function withConnection<T>(host: FleetHost, use: (connection: OpenConnection) => Promise<T>): Promise<T> {
  const connection = await connect(host.uri)
  try {
    return await use(connection)
  } finally {
    await connection.close()
  }
}

export const diskXml = (path: string, kind: 'file' | 'block' = 'file'): string =>
  `<disk type='${kind}' device='disk'><driver name='qemu' type='raw'/><source ${kind === 'file' ? 'file' : 'dev'}='${path}'/><target dev='vda' bus='virtio'/></disk>`

export function domainXml(
  name: string,
  options: { memoryMiB?: number; uuid?: string; devices?: string; head?: string } = {}
): string {
  const { memoryMiB = 64, uuid, devices = '', head = '' } = options
  const id = uuid === undefined ? '' : `<uuid>${uuid}</uuid>`
  return `<domain type='qemu'><name>${name}</name>${id}${head}<memory unit='MiB'>${memoryMiB}</memory><vcpu>1</vcpu>
    <os><type arch='x86_64'>hvm</type></os><features><acpi/></features><devices>${devices}</devices></domain>`
}

export const define = async (connection: OpenConnection, xml: string): Promise<Domain> =>
  (await connection.call('DOMAIN_DEFINE_XML_FLAGS', { xml, flags: 0 })).dom

/** Peer-to-peer, live and persistent: `flags` of our usual migration. */
export const migrate = (connection: OpenConnection, dom: Domain, peer: FleetHost, more = 0): Promise<unknown> =>
  connection.call('DOMAIN_MIGRATE_PERFORM3_PARAMS', {
    dom,
    dconnuri: peer.uri,
    params: [],
    cookie_in: new Uint8Array(),
    flags: 1 | 2 | 8 | 16 | more
  })

/** A file of the shared store, as a disk for guests on every host. */
export function sharedDisk(fleet: SimFleet, name: string, capacityBytes = 1_048_576n): string {
  fleet.stores.get('nfs')?.create(`/${name}`, { format: 'raw', capacityBytes })
  return `/shared/${name}`
}
