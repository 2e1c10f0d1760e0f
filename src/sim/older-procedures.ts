// Procedures that our own client has no use for but virsh calls: the older forms of newer ones, answered through those,
// and a few that only count. Their shapes: libvirt's src/remote/remote_protocol.x.

import { DomainMemoryModFlags, DomainModificationImpact } from '../libvirt/constants.gen.ts'
import { type Domain, domain, type DomainSnapshot, domainSnapshot } from '../libvirt/wire.gen.ts'
import { XdrReader, XdrWriter } from '../libvirt/xdr.ts'
import type { CallContext } from './call.ts'
import type { SimDomain, Snapshot } from './domain.ts'
import { answer } from './handlers.ts'
import type { SimHost } from './host.ts'
import { refuse } from './refusal.ts'

type Older = (reader: XdrReader, host: SimHost, call: CallContext) => Buffer | Promise<Buffer>

const nothing = Buffer.alloc(0)

const int = (...values: number[]): Buffer => {
  const writer = new XdrWriter(16)
  for (const value of values) writer.int(value)
  return writer.take()
}

const { LIVE } = DomainModificationImpact

/** Reads a domain and one more value, and answers through the newer procedure. */
const onDomain =
  <T>(
    read: (reader: XdrReader) => T,
    act: (dom: Domain, value: T, host: SimHost, call: CallContext) => Promise<unknown>
  ): Older =>
  async (reader, host, call) => {
    const dom = domain.read(reader)
    await act(dom, read(reader), host, call)
    return nothing
  }

const onSnapshot =
  (count: (owner: SimDomain, snapshot: Snapshot) => number): Older =>
  (reader, host) => {
    const ref: DomainSnapshot = domainSnapshot.read(reader)
    const owner = host.domain(ref.dom)
    const snapshot = owner.snapshots.get(ref.name)
    if (!snapshot)
      throw refuse('NO_DOMAIN_SNAPSHOT', 'DOMAIN_SNAPSHOT', `no domain snapshot with matching name '${ref.name}'`)
    return int(count(owner, snapshot))
  }

const string = (reader: XdrReader): string => reader.string()
const uint = (reader: XdrReader): number => reader.uint()
const uhyper = (reader: XdrReader): bigint => reader.uhyper()

const older: Record<number, Older> = {
  /** DOMAIN_ATTACH_DEVICE */
  8: onDomain(string, (dom, xml, host, call) =>
    answer('DOMAIN_ATTACH_DEVICE_FLAGS', { dom, xml, flags: LIVE }, host, call)
  ),
  /** DOMAIN_DETACH_DEVICE */
  13: onDomain(string, (dom, xml, host, call) =>
    answer('DOMAIN_DETACH_DEVICE_FLAGS', { dom, xml, flags: LIVE }, host, call)
  ),
  /** DOMAIN_SET_MAX_MEMORY */
  30: onDomain(uhyper, (dom, memory, host, call) =>
    answer('DOMAIN_SET_MEMORY_FLAGS', { dom, memory, flags: DomainMemoryModFlags.MAXIMUM }, host, call)
  ),
  /** DOMAIN_SET_MEMORY */
  31: onDomain(uhyper, (dom, memory, host, call) =>
    answer('DOMAIN_SET_MEMORY_FLAGS', { dom, memory, flags: LIVE }, host, call)
  ),
  /** DOMAIN_SET_VCPUS */
  32: onDomain(uint, (dom, nvcpus, host, call) =>
    answer('DOMAIN_SET_VCPUS_FLAGS', { dom, nvcpus, flags: LIVE }, host, call)
  ),
  /** DOMAIN_SNAPSHOT_NUM */
  187: (reader, host) => int(host.domain(domain.read(reader)).snapshots.size),
  /** DOMAIN_SNAPSHOT_NUM_CHILDREN; flag 1 counts descendants. */
  246: (reader, host) => {
    const ref = domainSnapshot.read(reader)
    return int(childrenOf(host.domain(ref.dom), ref.name, (reader.uint() & 1) !== 0))
  },
  /** DOMAIN_SNAPSHOT_IS_CURRENT */
  271: onSnapshot((owner, snapshot) => (owner.currentSnapshot === snapshot.name ? 1 : 0)),
  /** DOMAIN_SNAPSHOT_HAS_METADATA */
  272: onSnapshot(() => 1),
  /** DOMAIN_LIST_ALL_CHECKPOINTS: there are none. */
  413: (reader, host) => {
    host.domain(domain.read(reader))
    return int(0, 0)
  }
}

function childrenOf(owner: SimDomain, name: string, all: boolean): number {
  const children = [...owner.snapshots.values()].filter((other) => other.parent === name)
  return children.length + (all ? children.reduce((sum, child) => sum + childrenOf(owner, child.name, true), 0) : 0)
}

/** The reply's bytes; undefined for a number that is not known here either. Throws Refusal and XdrError. */
export function answerOlder(
  number: number,
  payload: Buffer,
  host: SimHost,
  call: CallContext
): Promise<Buffer> | undefined {
  const procedure = older[number]
  return procedure && Promise.resolve(procedure(new XdrReader(payload), host, call))
}
