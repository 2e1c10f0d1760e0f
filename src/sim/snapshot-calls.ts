// Snapshots: internal ones of qcow2 disks with the guest's memory, and external ones of disks only.

import {
  DomainEventDefinedDetailType,
  DomainEventResumedDetailType,
  DomainEventStartedDetailType,
  DomainEventStoppedDetailType,
  DomainEventSuspendedDetailType,
  DomainEventType,
  DomainPausedReason,
  DomainRunningReason,
  DomainShutoffReason,
  DomainSnapshotCreateFlags,
  DomainSnapshotDeleteFlags,
  DomainSnapshotListFlags,
  DomainState
} from '../libvirt/constants.gen.ts'
import type { Domain, DomainSnapshot } from '../libvirt/wire.gen.ts'
import { type Handlers, listed, passes } from './call.ts'
import { closeDisks, openDisks } from './disks.ts'
import type { SimDomain, Snapshot } from './domain.ts'
import { asJob } from './domain-rules.ts'
import { defineDomain, type DomainDef, editDefinition } from './domain-xml.ts'
import type { SimHost } from './host.ts'
import { end, launch, noteStart, pause, run } from './lifecycle.ts'
import { notValid, refuse } from './refusal.ts'
import { elements, find, node, parseXml, printXml, putChild, textAt } from './xml.ts'

const C = DomainSnapshotCreateFlags

function snapshotOf(host: SimHost, ref: { name: string; dom: Domain }): { domain: SimDomain; snapshot: Snapshot } {
  const domain = host.domain(ref.dom)
  const snapshot = domain.snapshots.get(ref.name)
  if (!snapshot)
    throw refuse('NO_DOMAIN_SNAPSHOT', 'DOMAIN_SNAPSHOT', `no domain snapshot with matching name '${ref.name}'`)
  return { domain, snapshot }
}

const refOf = (domain: SimDomain, snapshot: Snapshot): DomainSnapshot => ({ name: snapshot.name, dom: domain.ref })

function stateOf(domain: SimDomain, diskOnly: boolean): Snapshot['state'] {
  if (diskOnly && domain.active) return 'disk-snapshot'
  if (domain.state === DomainState.RUNNING) return 'running'
  return domain.state === DomainState.PAUSED ? 'paused' : 'shutoff'
}

function create(host: SimHost, domain: SimDomain, xml: string, flags: number): Snapshot {
  const tree = parseXml(xml, 'domainsnapshot')
  if (flags & C.REDEFINE) return redefine(host, domain, xml, flags)
  const name = textAt(tree, 'name') ?? String(Math.floor(Date.now() / 1000))
  if (domain.snapshots.has(name)) throw refuse('OPERATION_FAILED', 'QEMU', `domain moment ${name} already exists`)
  const diskOnly = (flags & C.DISK_ONLY) !== 0
  const { current } = domain
  if (!diskOnly) requireInternal(host, current)
  const snapshot: Snapshot = {
    name,
    parent: domain.currentSnapshot,
    description: textAt(tree, 'description'),
    createdAt: Math.floor(Date.now() / 1000),
    state: stateOf(domain, diskOnly),
    def: current,
    external: diskOnly
  }
  const wasRunning = domain.state === DomainState.RUNNING
  if (diskOnly) putOverlays(host, domain, name)
  else if (wasRunning) freezeBriefly(host, domain)
  host.note('snapshot', domain, { detail: `created ${name}` })
  if (flags & C.NO_METADATA) return snapshot
  domain.snapshots.set(name, snapshot)
  domain.currentSnapshot = name
  if (flags & C.HALT && domain.active)
    end(host, domain, DomainShutoffReason.FROM_SNAPSHOT, DomainEventStoppedDetailType.FROM_SNAPSHOT)
  return snapshot
}

// While the memory is written the guest stands still, and both is told.
function freezeBriefly(host: SimHost, domain: SimDomain): void {
  pause(host, domain, DomainPausedReason.SNAPSHOT)
  host.emitLifecycle(domain, DomainEventType.SUSPENDED, DomainEventSuspendedDetailType.PAUSED)
  run(host, domain, DomainRunningReason.UNPAUSED)
  host.emitLifecycle(domain, DomainEventType.RESUMED, DomainEventResumedDetailType.UNPAUSED)
}

function requireInternal(host: SimHost, def: DomainDef): void {
  for (const disk of def.disks) {
    if (disk.readOnly || disk.source === null) continue
    const format = host.file(disk.source)?.format ?? 'raw'
    if (format !== 'qcow2')
      throw refuse(
        'CONFIG_UNSUPPORTED',
        'QEMU',
        `internal snapshot for disk ${disk.target} unsupported for storage type ${format}`
      )
  }
}

/** Every writable disk gets an overlay beside it, which the guest uses from now on. */
function putOverlays(host: SimHost, domain: SimDomain, name: string): void {
  const overlays = new Map<string, string>()
  for (const disk of domain.current.disks) {
    const file = disk.readOnly || disk.source === null ? undefined : host.file(disk.source)
    if (!file || disk.source === null) continue
    const path = `${disk.source.replace(/\.[^./]*$/, '')}.${name}`
    const { store, inner } = host.locate(path)
    if (store.files.has(inner))
      throw notValid(`external snapshot file for disk ${disk.target} already exists and is not a block device: ${path}`)
    const backing = { path: disk.source, format: file.format }
    store.create(inner, { format: 'qcow2', capacityBytes: file.capacityBytes, allocationBytes: 200_704n, backing })
    overlays.set(disk.target, path)
  }
  const edit = (def: DomainDef): DomainDef =>
    editDefinition(def, (tree) => {
      for (const disk of elements(find(tree, 'devices'), 'disk')) {
        const path = overlays.get(find(disk, 'target')?.attrs['dev'] ?? '')
        const source = find(disk, 'source')
        if (path === undefined || !source) continue
        source.attrs['file'] = path
        putChild(disk, node('driver', { ...find(disk, 'driver')?.attrs, type: 'qcow2' }))
      }
    })
  if (domain.live) {
    closeDisks(host, domain)
    domain.live = edit(domain.live)
    openDisks(host, domain, domain.live)
    if (domain.state === DomainState.RUNNING) run(host, domain, domain.reason)
  }
  if (domain.persistent) domain.persistent = edit(domain.persistent)
}

/** Puts metadata there again, as after a migration: the disks are not touched. */
function redefine(host: SimHost, domain: SimDomain, xml: string, flags: number): Snapshot {
  const tree = parseXml(xml, 'domainsnapshot')
  const name = textAt(tree, 'name')
  if (name === null) throw refuse('XML_ERROR', 'DOMAIN_SNAPSHOT', 'a redefined snapshot must have a name')
  const parent = textAt(tree, 'parent', 'name')
  if (parent !== null && !domain.snapshots.has(parent))
    throw refuse('INVALID_ARG', 'DOMAIN_SNAPSHOT', `parent ${parent} for moment ${name} not found`)
  const inner = find(tree, 'domain')
  const def = inner ? defineDomain(printXml(inner), { validate: false }) : domain.current
  if (def.uuid !== domain.uuid)
    throw refuse('INVALID_ARG', 'DOMAIN_SNAPSHOT', `definition for snapshot ${name} must use uuid ${domain.uuid}`)
  const state = (textAt(tree, 'state') ?? 'shutoff') as Snapshot['state']
  const snapshot: Snapshot = {
    name,
    parent,
    description: textAt(tree, 'description'),
    createdAt: Number(textAt(tree, 'creationTime') ?? 0),
    state,
    def,
    external: elements(find(tree, 'disks')).some((disk) => disk.attrs['snapshot'] === 'external')
  }
  domain.snapshots.set(name, snapshot)
  if (flags & C.CURRENT) domain.currentSnapshot = name
  host.note('snapshot', domain, { detail: `redefined ${name}` })
  return snapshot
}

function revert(host: SimHost, domain: SimDomain, snapshot: Snapshot): void {
  if (snapshot.external) throw refuse('CONFIG_UNSUPPORTED', 'QEMU', 'revert to external snapshot not supported yet')
  if (domain.active) end(host, domain, DomainShutoffReason.FROM_SNAPSHOT, DomainEventStoppedDetailType.FROM_SNAPSHOT)
  domain.state = DomainState.SHUTOFF
  domain.reason = DomainShutoffReason.FROM_SNAPSHOT
  if (domain.persistent) domain.persistent = snapshot.def
  domain.currentSnapshot = snapshot.name
  host.note('snapshot', domain, { detail: `reverted to ${snapshot.name}` })
  if (snapshot.state === 'shutoff') {
    host.emitLifecycle(domain, DomainEventType.DEFINED, DomainEventDefinedDetailType.FROM_SNAPSHOT)
    return
  }
  launch(host, domain, snapshot.def, { incoming: false })
  noteStart(host, domain, 'from snapshot')
  host.emitLifecycle(domain, DomainEventType.STARTED, DomainEventStartedDetailType.FROM_SNAPSHOT)
  if (snapshot.state === 'paused') {
    domain.reason = DomainPausedReason.FROM_SNAPSHOT
    host.emitLifecycle(domain, DomainEventType.SUSPENDED, DomainEventSuspendedDetailType.FROM_SNAPSHOT)
    return
  }
  run(host, domain, DomainRunningReason.FROM_SNAPSHOT)
  host.emitLifecycle(domain, DomainEventType.RESUMED, DomainEventResumedDetailType.FROM_SNAPSHOT)
}

function remove(host: SimHost, domain: SimDomain, snapshot: Snapshot, flags: number): void {
  const { CHILDREN, METADATA_ONLY, CHILDREN_ONLY } = DomainSnapshotDeleteFlags
  const doomed = flags & (CHILDREN | CHILDREN_ONLY) ? descendants(domain, snapshot.name) : []
  if ((flags & CHILDREN_ONLY) === 0) doomed.push(snapshot)
  const external = doomed.filter((other) => other.external).length
  if (external > 0 && (flags & METADATA_ONLY) === 0)
    throw refuse('CONFIG_UNSUPPORTED', 'QEMU', `deletion of ${external} external disk snapshots not supported yet`)
  for (const { name, parent } of doomed) {
    domain.snapshots.delete(name)
    for (const child of domain.snapshots.values()) if (child.parent === name) child.parent = parent
    if (domain.currentSnapshot === name) domain.currentSnapshot = parent
    host.note('snapshot', domain, { detail: `${flags & METADATA_ONLY ? 'forgotten' : 'deleted'} ${name}` })
  }
}

const descendants = (domain: SimDomain, name: string): Snapshot[] =>
  [...domain.snapshots.values()]
    .filter((other) => other.parent === name)
    .flatMap((child) => [...descendants(domain, child.name), child])

function xmlOf(snapshot: Snapshot): string {
  const kind = snapshot.external ? 'external' : 'internal'
  const memory = snapshot.state === 'running' || snapshot.state === 'paused' ? 'internal' : 'no'
  const disks = snapshot.def.disks.map(({ target, readOnly }) =>
    node('disk', { name: target, snapshot: readOnly ? 'no' : kind })
  )
  const text = (name: string, value: string) => node(name, {}, [value])
  return printXml(
    node('domainsnapshot', {}, [
      text('name', snapshot.name),
      ...(snapshot.description === null ? [] : [text('description', snapshot.description)]),
      text('state', snapshot.state),
      ...(snapshot.parent === null ? [] : [node('parent', {}, [text('name', snapshot.parent)])]),
      text('creationTime', String(snapshot.createdAt)),
      node('memory', { snapshot: memory }),
      node('disks', {}, disks),
      parseXml(snapshot.def.xml)
    ])
  )
}

function filtered(all: Snapshot[], domain: SimDomain, flags: number): Snapshot[] {
  const f = DomainSnapshotListFlags
  const hasChildren = (name: string): boolean => [...domain.snapshots.values()].some((other) => other.parent === name)
  return all.filter((snapshot) =>
    passes(flags, [
      [
        [f.LEAVES, !hasChildren(snapshot.name)],
        [f.NO_LEAVES, hasChildren(snapshot.name)]
      ],
      [
        [f.METADATA, true],
        [f.NO_METADATA, false]
      ],
      [
        [f.INACTIVE, snapshot.state === 'shutoff'],
        [f.ACTIVE, snapshot.state === 'running' || snapshot.state === 'paused'],
        [f.DISK_ONLY, snapshot.state === 'disk-snapshot']
      ],
      [
        [f.INTERNAL, !snapshot.external],
        [f.EXTERNAL, snapshot.external]
      ]
    ])
  )
}

/** ROOTS and DESCENDANTS share a bit: of a domain's own list, and of a snapshot's children. */
const { ROOTS } = DomainSnapshotListFlags

export const snapshotCalls: Handlers = {
  DOMAIN_SNAPSHOT_CREATE_XML: async ({ dom, xml_desc, flags }, host) => {
    const domain = host.domain(dom)
    const snapshot = await asJob(host, domain, 'modify', 'DomainSnapshotCreateXML', () =>
      create(host, domain, xml_desc, flags)
    )
    return { snap: refOf(domain, snapshot) }
  },
  DOMAIN_SNAPSHOT_GET_XML_DESC: ({ snap }, host) => ({ xml: xmlOf(snapshotOf(host, snap).snapshot) }),
  DOMAIN_SNAPSHOT_LOOKUP_BY_NAME: ({ dom, name }, host) => {
    const { domain, snapshot } = snapshotOf(host, { name, dom })
    return { snap: refOf(domain, snapshot) }
  },
  DOMAIN_HAS_CURRENT_SNAPSHOT: ({ dom }, host) => ({ result: host.domain(dom).currentSnapshot === null ? 0 : 1 }),
  DOMAIN_SNAPSHOT_CURRENT: ({ dom }, host) => {
    const domain = host.domain(dom)
    const snapshot = domain.snapshots.get(domain.currentSnapshot ?? '')
    if (!snapshot) throw refuse('NO_DOMAIN_SNAPSHOT', 'DOMAIN_SNAPSHOT', 'the domain does not have a current snapshot')
    return { snap: refOf(domain, snapshot) }
  },
  DOMAIN_SNAPSHOT_GET_PARENT: ({ snap }, host) => {
    const { domain, snapshot } = snapshotOf(host, snap)
    const parent = domain.snapshots.get(snapshot.parent ?? '')
    if (!parent)
      throw refuse('NO_DOMAIN_SNAPSHOT', 'DOMAIN_SNAPSHOT', `snapshot '${snapshot.name}' does not have a parent`)
    return { snap: refOf(domain, parent) }
  },
  DOMAIN_LIST_ALL_SNAPSHOTS: ({ dom, need_results, flags }, host) => {
    const domain = host.domain(dom)
    const all = [...domain.snapshots.values()].filter((snapshot) => !(flags & ROOTS) || snapshot.parent === null)
    const { items, ret } = listed(filtered(all, domain, flags), need_results)
    return { snapshots: items.map((snapshot) => refOf(domain, snapshot)), ret }
  },
  DOMAIN_SNAPSHOT_LIST_ALL_CHILDREN: ({ snapshot: ref, need_results, flags }, host) => {
    const { domain, snapshot } = snapshotOf(host, ref)
    const below = descendants(domain, snapshot.name)
    const all = flags & ROOTS ? below : below.filter((child) => child.parent === snapshot.name)
    const { items, ret } = listed(filtered(all, domain, flags), need_results)
    return { snapshots: items.map((child) => refOf(domain, child)), ret }
  },
  DOMAIN_REVERT_TO_SNAPSHOT: async ({ snap }, host) => {
    const { domain, snapshot } = snapshotOf(host, snap)
    await asJob(host, domain, 'modify', 'DomainRevertToSnapshot', () => revert(host, domain, snapshot))
    return {}
  },
  DOMAIN_SNAPSHOT_DELETE: async ({ snap, flags }, host) => {
    const { domain, snapshot } = snapshotOf(host, snap)
    await asJob(host, domain, 'modify', 'DomainSnapshotDelete', () => remove(host, domain, snapshot, flags))
    return {}
  }
}
