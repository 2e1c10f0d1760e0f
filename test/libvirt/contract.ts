// What every host must do, be it libvirt's test driver, QEMU or a simulated host: the same tests run on each, so that no simulation drifts
// from the truth. Where drivers differ, the target says so in its capabilities.

import { afterAll, beforeAll, describe } from 'vitest'
import type { ConnectOptions, OpenConnection } from '../../src/libvirt/connect.ts'
import { connectionContract } from './contract/connection.ts'
import { domainContract } from './contract/domains.ts'
import { domainEventContract } from './contract/domain-events.ts'
import { guardContract } from './contract/guards.ts'
import { migrationContract } from './contract/migration.ts'
import { networkContract } from './contract/networks.ts'
import { storageContract } from './contract/storage.ts'
import { streamContract } from './contract/streams.ts'

export interface Capabilities {
  /** Behaves as the QEMU driver does: states are strict, a start is RESUMED then STARTED, a destroy SHUTDOWN then STOPPED. Default false. */
  readonly qemu?: boolean
  /** Virtual networks can be started. Default false. */
  readonly networks?: boolean
  /** Volumes can be resized, uploaded and downloaded. Default false. */
  readonly streams?: boolean
  /** A guest can migrate to another host, peer to peer. */
  readonly migration?: MigrationPeer
}

export interface MigrationPeer {
  /** The other host, seen from here. */
  readonly connect: (overrides?: ConnectOptions) => Promise<OpenConnection>
  /** The other host's address as this host's daemon reaches it. */
  readonly peerUri: string
}

export interface ContractTarget {
  readonly name: string
  readonly connect: (overrides?: ConnectOptions) => Promise<OpenConnection>
  readonly capabilities?: Capabilities
  /** An absolute path, existing on the host, below which pools' folders are made. A function is asked once the host is up. */
  readonly folder: string | (() => string)
  /** A guest that can be started and needs no disk. Default: the simplest of the driver's kind. */
  readonly domainXml?: (name: string, uuid: string) => string
  /** Why the tests cannot run here: they are skipped, and say it. */
  readonly skip?: string | undefined
  /** Brings the host up before the first test and down after the last. */
  readonly start?: () => Promise<unknown>
  readonly stop?: () => Promise<unknown>
}

/** What the parts of the contract work with. */
export interface Bench {
  readonly target: ContractTarget
  readonly capabilities: Capabilities
  /** A connection that lives as long as the tests. */
  readonly connection: OpenConnection
  readonly folder: string
  domainXml(name: string, uuid: string): string
}

/** Registers the tests for one host. Everything made has a name that begins with `contract-`, and is removed. */
export function contract(target: ContractTarget): void {
  const title = target.skip === undefined ? target.name : `${target.name} (skipped: ${target.skip})`
  describe.skipIf(target.skip !== undefined)(title, () => {
    let connection: OpenConnection | undefined
    const bench: Bench = {
      target,
      capabilities: target.capabilities ?? {},
      get connection() {
        return connection!
      },
      get folder() {
        return typeof target.folder === 'string' ? target.folder : target.folder()
      },
      domainXml: target.domainXml ?? ((name, uuid) => simpleDomain(target.capabilities?.qemu === true, name, uuid))
    }
    beforeAll(async () => {
      await target.start?.()
      connection = await target.connect()
    }, 60_000)
    afterAll(async () => {
      await connection?.close()
      await target.stop?.()
    }, 60_000)
    connectionContract(bench)
    domainContract(bench)
    domainEventContract(bench)
    guardContract(bench)
    storageContract(bench)
    streamContract(bench)
    networkContract(bench)
    migrationContract(bench)
  })
}

function simpleDomain(qemu: boolean, name: string, uuid: string): string {
  const [type, arch] = qemu ? ['qemu', 'x86_64'] : ['test', 'i686']
  return `<domain type='${type}'><name>${name}</name><uuid>${uuid}</uuid><memory unit='MiB'>32</memory><vcpu>1</vcpu>
    <os><type arch='${arch}'>hvm</type></os><features><acpi/></features>
    <devices><controller type='usb' model='none'/><memballoon model='none'/></devices></domain>`
}
