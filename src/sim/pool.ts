// One storage pool of one host: a handle on a place where volumes are. What it knows of its volumes is what it saw at its
// last refresh, as with libvirt: a file that another host made is not there until then.

import { randomUUID } from 'node:crypto'
import type { SimHost } from './host.ts'
import { notValid, refuse } from './refusal.ts'
import type { SimFile } from './store.ts'
import { find, node, parseXml, printXml, removeChildren, textAt, type XmlNode } from './xml.ts'

export type PoolDef = {
  name: string
  uuid: string
  type: string
  /** Where its volumes appear; a made-up path for pools that libvirt shows without one. */
  target: string
  /** Equal for two pools on one remote store; null for local ones. */
  source: string | null
  tree: XmlNode
}

const types = new Set('dir fs netfs logical disk iscsi iscsi-direct scsi mpath rbd gluster zfs vstorage'.split(' '))

/** Parses a pool's XML as STORAGE_POOL_DEFINE_XML does. */
export function parsePool(text: string): PoolDef {
  const tree = parseXml(text, 'pool')
  const type = tree.attrs['type'] ?? ''
  if (!types.has(type)) throw refuse('INTERNAL_ERROR', 'STORAGE', `unknown storage pool type ${type}`)
  const source = find(tree, 'source')
  const name = textAt(tree, 'name') ?? textAt(source, 'name')
  if (name === null) throw refuse('XML_ERROR', 'STORAGE', 'missing pool source name element')
  if (name.includes('/')) throw refuse('XML_ERROR', 'STORAGE', `name ${name} cannot contain '/'`)
  const path = textAt(tree, 'target', 'path')
  if (path === null && (type === 'dir' || type === 'fs' || type === 'netfs'))
    throw refuse('XML_ERROR', 'STORAGE', 'missing storage pool target path')
  const remote = remoteSource(type, source)
  const target = (path ?? defaultTarget(type, source, name)).replace(/(.)\/+$/, '$1')
  if (type === 'netfs' && (find(source, 'host') === undefined || find(source, 'dir') === undefined))
    throw refuse('XML_ERROR', 'STORAGE', 'missing storage pool source host name')
  return { name, uuid: textAt(tree, 'uuid') ?? randomUUID(), type, target, source: remote, tree }
}

function defaultTarget(type: string, source: XmlNode | undefined, name: string): string {
  if (type === 'logical') return `/dev/${textAt(source, 'name') ?? name}`
  return `/sim/${type}/${name}`
}

function remoteSource(type: string, source: XmlNode | undefined): string | null {
  const host = find(source, 'host')?.attrs['name'] ?? ''
  const dir = find(source, 'dir')?.attrs['path'] ?? ''
  const name = textAt(source, 'name') ?? ''
  const device = find(source, 'device')?.attrs['path'] ?? ''
  if (type === 'netfs') return `netfs:${host}:${dir}`
  if (type === 'gluster') return `gluster:${host}:${name}:${dir}`
  if (type === 'rbd') return `rbd:${host}:${name}`
  if (type === 'iscsi' || type === 'iscsi-direct') return `iscsi:${host}:${device}`
  return null
}

export class SimPool {
  readonly name: string
  readonly uuid: string
  def: PoolDef
  persistent: boolean
  active = false
  autostart = false
  /** Name to path, as seen at the last refresh or made through this pool. */
  readonly volumes = new Map<string, string>()

  constructor(def: PoolDef, persistent: boolean) {
    this.name = def.name
    this.uuid = def.uuid
    this.def = def
    this.persistent = persistent
  }

  get ref(): { name: string; uuid: string } {
    return { name: this.name, uuid: this.uuid }
  }

  requireActive(): void {
    if (!this.active) throw notValid(`storage pool '${this.name}' is not active`, 'STORAGE')
  }

  /** Makes a remote source appear at the target, and looks at what is there. */
  start(host: SimHost): void {
    if (this.def.source !== null) host.mount(this.def.target, host.world.remoteStore(this.def.source))
    const { store, inner } = host.locate(this.def.target)
    const isMounted = this.def.type !== 'dir' || inner === '/'
    if (!isMounted && !store.directories.has(inner))
      throw refuse('SYSTEM_ERROR', 'STORAGE', `cannot open directory '${this.def.target}': No such file or directory`)
    if (isMounted) store.makeDirectory(inner)
    this.active = true
    this.refresh(host)
  }

  refresh(host: SimHost): void {
    this.volumes.clear()
    const { store, inner } = host.locate(this.def.target)
    for (const file of store.list(inner)) {
      const name = file.path.slice(file.path.lastIndexOf('/') + 1)
      this.volumes.set(name, `${this.def.target === '/' ? '' : this.def.target}/${name}`)
    }
  }

  sizes(host: SimHost): { capacity: bigint; allocation: bigint; available: bigint } {
    if (!this.active) return { capacity: 0n, allocation: 0n, available: 0n }
    const { store } = host.locate(this.def.target)
    const allocation = store.allocationBytes
    const capacity = store.capacityBytes
    return { capacity, allocation, available: capacity > allocation ? capacity - allocation : 0n }
  }

  /** The file behind a volume's name. Refuses where the pool does not know it or the file has gone. */
  file(host: SimHost, name: string): { file: SimFile; path: string } {
    const path = this.volumes.get(name)
    if (path === undefined) throw refuse('NO_STORAGE_VOL', 'STORAGE', `no storage vol with matching name '${name}'`)
    const file = host.file(path)
    if (!file) throw refuse('NO_STORAGE_VOL', 'STORAGE', `cannot open volume '${path}': No such file or directory`)
    return { file, path }
  }

  xml(host: SimHost): string {
    const { name, uuid, type, target, tree } = this.def
    const sizes = this.sizes(host)
    const bytes = (element: string, value: bigint): XmlNode => node(element, { unit: 'bytes' }, [String(value)])
    const source = find(tree, 'source') ?? node('source')
    const place = node('target', {}, [node('path', {}, [target])])
    if (this.active && type === 'dir') place.children.push(permissions('0711'))
    const out = node('pool', { type }, [
      node('name', {}, [name]),
      node('uuid', {}, [uuid]),
      bytes('capacity', sizes.capacity),
      bytes('allocation', sizes.allocation),
      bytes('available', sizes.available),
      source,
      ...(type === 'rbd' || type === 'gluster' ? [] : [place])
    ])
    removeChildren(out, 'features')
    // libvirt leaves an empty source open.
    return printXml(out).replace('  <source/>\n', '  <source>\n  </source>\n')
  }
}

export const permissions = (mode: string): XmlNode =>
  node('permissions', {}, [node('mode', {}, [mode]), node('owner', {}, ['0']), node('group', {}, ['0'])])
