// Snapshots of a VM on its host: internal ones, kept inside its qcow2 disks, with the memory of a running guest.
// They block a migration, so that they can also be dumped, forgotten by the host, and told to it or to another again: the disks
// are not touched by that.
import {
  DomainSnapshotCreateFlags,
  DomainSnapshotDeleteFlags,
  DomainXMLFlags,
  ErrorCode
} from '../libvirt/constants.gen.ts'
import type { Domain, DomainSnapshot } from '../libvirt/wire.gen.ts'
import type { VmMark, VmSnapshot } from '../model/vm.ts'
import { refusedWith, type HostCalls } from './calls.ts'
import { attributeOf, childOf, childrenOf, escapeXml, parseXml, textOf } from './xml.ts'

/** A snapshot's whole description, with the definition's secrets: what it can be told to a host from. */
export type DumpedSnapshot = { name: string; xml: string; current: boolean }

export interface Snapshots {
  /** Parents before their children. */
  snapshots(uuid: string): Promise<VmSnapshot[]>
  /** Of all disks and, while it runs, of its memory; all or nothing. */
  createSnapshot(uuid: string, snapshot: { name: string; description: string | null; mark: VmMark }): Promise<void>
  /** The VM becomes as it was then, running or off; what it is now is lost. */
  revertToSnapshot(uuid: string, name: string): Promise<void>
  /** `withChildren`: those that were made after it, too; else they become its parent's. */
  deleteSnapshot(uuid: string, name: string, options: { withChildren: boolean }): Promise<void>
  /** Parents before their children. */
  dumpSnapshots(uuid: string): Promise<DumpedSnapshot[]>
  /** The host forgets all of them; their data stays in the disks. */
  forgetSnapshots(uuid: string): Promise<void>
  /** Tells dumped snapshots to the host; those that it knows by name are left as they are. Parents first. */
  restoreSnapshots(uuid: string, dumped: readonly DumpedSnapshot[]): Promise<void>
}

const domainOf = (uuid: string): Domain => ({ name: uuid, uuid, id: -1 })
const refOf = (uuid: string, name: string): DomainSnapshot => ({ name, dom: domainOf(uuid) })

/** A host that cannot make snapshots has none. */
export async function listSnapshots(calls: HostCalls, uuid: string): Promise<VmSnapshot[]> {
  const dom = domainOf(uuid)
  const listed = await orNone(
    async () => (await calls.read('DOMAIN_LIST_ALL_SNAPSHOTS', { dom, need_results: 1, flags: 0 })).snapshots
  )
  if (listed.length === 0) return []
  const [current, xmls] = await Promise.all([
    currentName(calls, dom),
    Promise.all(listed.map(({ name }) => xmlOf(calls, uuid, name, 0)))
  ])
  return parentsFirst(xmls.flatMap((xml) => (xml === undefined ? [] : [readSnapshotXml(xml, current)])))
}

async function orNone<T>(list: () => Promise<T[]>): Promise<T[]> {
  try {
    return await list()
  } catch (error) {
    if (refusedWith(error, ErrorCode.NO_SUPPORT)) return []
    throw error
  }
}

/** Undefined when it is gone since it was listed. */
async function xmlOf(calls: HostCalls, uuid: string, name: string, flags: number): Promise<string | undefined> {
  try {
    return (await calls.read('DOMAIN_SNAPSHOT_GET_XML_DESC', { snap: refOf(uuid, name), flags })).xml
  } catch (error) {
    if (refusedWith(error, ErrorCode.NO_DOMAIN_SNAPSHOT)) return undefined
    throw error
  }
}

async function currentName(calls: HostCalls, dom: Domain): Promise<string | null> {
  try {
    return (await calls.read('DOMAIN_SNAPSHOT_CURRENT', { dom, flags: 0 })).snap.name
  } catch (error) {
    if (refusedWith(error, ErrorCode.NO_DOMAIN_SNAPSHOT)) return null
    throw error
  }
}

function readSnapshotXml(xml: string, current: string | null): VmSnapshot {
  const snapshot = parseXml(xml, 'domainsnapshot')
  const name = textOf(snapshot, 'name') ?? ''
  const state = textOf(snapshot, 'state') ?? ''
  const external = childrenOf(childOf(snapshot, 'disks'), 'disk').some(
    (disk) => attributeOf(disk, 'snapshot') === 'external'
  )
  const { text, mark } = splitDescription(textOf(snapshot, 'description'))
  return {
    name,
    parent: textOf(snapshot, 'parent', 'name'),
    current: name === current,
    createdAt: new Date(Number(textOf(snapshot, 'creationTime') ?? 0) * 1000).toISOString(),
    // `shutoff`, `disk-snapshot`: there is no memory to go on from.
    state: state === 'running' || state === 'paused' ? state : 'off',
    external,
    description: text,
    mark
  }
}

// A snapshot has no metadata of its own: who made it stands at the end of its description.
const markPattern = /\s*\[taskomatic ([0-9a-f-]{36}) task (\d+)\]$/

const describe = (description: string | null, mark: VmMark): string =>
  `${description === null ? '' : `${description} `}[taskomatic ${mark.instance} task ${mark.task}]`

function splitDescription(text: string | null): Pick<VmSnapshot, 'mark'> & { text: string | null } {
  const [all = '', instance, task] = markPattern.exec(text ?? '') ?? []
  if (instance === undefined || text === null) return { text, mark: null }
  const own = text.slice(0, text.length - all.length)
  return { text: own === '' ? null : own, mark: { instance, task: Number(task), generation: 0 } }
}

/** In the order of their making where that is so already; a parent that is not among them is none. */
function parentsFirst<T extends { name: string; parent: string | null }>(snapshots: readonly T[]): T[] {
  const left = new Map(snapshots.map((snapshot) => [snapshot.name, snapshot]))
  const sorted: T[] = []
  while (left.size > 0) {
    const ready = [...left.values()].filter(({ parent }) => parent === null || !left.has(parent))
    // A circle cannot be: but a host that says so must not make us turn for ever.
    for (const snapshot of ready.length > 0 ? ready : left.values()) {
      sorted.push(snapshot)
      left.delete(snapshot.name)
    }
  }
  return sorted
}

export async function createSnapshot(
  calls: HostCalls,
  uuid: string,
  snapshot: Parameters<Snapshots['createSnapshot']>[1]
): Promise<void> {
  const description = describe(snapshot.description, snapshot.mark)
  const xml =
    `<domainsnapshot><name>${escapeXml(snapshot.name)}</name>` +
    `<description>${escapeXml(description)}</description></domainsnapshot>`
  await calls.long('DOMAIN_SNAPSHOT_CREATE_XML', {
    dom: domainOf(uuid),
    xml_desc: xml,
    flags: DomainSnapshotCreateFlags.ATOMIC
  })
}

export async function revertToSnapshot(calls: HostCalls, uuid: string, name: string): Promise<void> {
  await calls.long('DOMAIN_REVERT_TO_SNAPSHOT', { snap: refOf(uuid, name), flags: 0 })
}

export async function deleteSnapshot(
  calls: HostCalls,
  uuid: string,
  name: string,
  options: { withChildren: boolean }
): Promise<void> {
  const flags = options.withChildren ? DomainSnapshotDeleteFlags.CHILDREN : 0
  await calls.long('DOMAIN_SNAPSHOT_DELETE', { snap: refOf(uuid, name), flags })
}

export async function dumpSnapshots(calls: HostCalls, uuid: string): Promise<DumpedSnapshot[]> {
  const snapshots = await listSnapshots(calls, uuid)
  const dumped = await Promise.all(
    snapshots.map(async ({ name, current }) => {
      const xml = await xmlOf(calls, uuid, name, DomainXMLFlags.SECURE)
      return xml === undefined ? [] : [{ name, xml, current }]
    })
  )
  return dumped.flat()
}

export async function forgetSnapshots(calls: HostCalls, uuid: string): Promise<void> {
  const snapshots = await listSnapshots(calls, uuid)
  // Children first: each parent is then a leaf, and nothing is told to become another's child.
  for (const { name } of snapshots.toReversed()) {
    await calls.long('DOMAIN_SNAPSHOT_DELETE', {
      snap: refOf(uuid, name),
      flags: DomainSnapshotDeleteFlags.METADATA_ONLY
    })
  }
}

export async function restoreSnapshots(
  calls: HostCalls,
  uuid: string,
  dumped: readonly DumpedSnapshot[]
): Promise<void> {
  const known = new Set((await listSnapshots(calls, uuid)).map(({ name }) => name))
  const { REDEFINE, CURRENT } = DomainSnapshotCreateFlags
  const ordered = parentsFirst(
    dumped.map((one) => ({ ...one, parent: textOf(parseXml(one.xml, 'domainsnapshot'), 'parent', 'name') }))
  )
  for (const { name, xml, current } of ordered) {
    if (known.has(name)) continue
    const flags = REDEFINE | (current ? CURRENT : 0)
    await calls.long('DOMAIN_SNAPSHOT_CREATE_XML', { dom: domainOf(uuid), xml_desc: xml, flags })
  }
}
