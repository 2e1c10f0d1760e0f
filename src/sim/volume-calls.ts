// Procedures about volumes.

import { StorageVolResizeFlags, StorageVolType } from '../libvirt/constants.gen.ts'
import type { Empty, StorageVolume } from '../libvirt/wire.gen.ts'
import type { CallContext, Handlers } from './call.ts'
import type { SimHost } from './host.ts'
import { permissions, type SimPool } from './pool.ts'
import { poolByName, poolOf } from './pool-calls.ts'
import { notValid, refuse } from './refusal.ts'
import type { SimFile } from './store.ts'
import { bytesAt, find, node, parseXml, printXml, textAt } from './xml.ts'

type Found = { pool: SimPool; file: SimFile; path: string; name: string }

export function volumeOf(host: SimHost, ref: StorageVolume): Found {
  const pool = poolByName(host, ref.pool)
  pool.requireActive()
  return { pool, name: ref.name, ...pool.file(host, ref.name) }
}

type VolumeDef = Pick<SimFile, 'format' | 'capacityBytes' | 'allocationBytes' | 'backing'> & { name: string }

// A qcow2 file begins with about 200 KiB of tables; a raw one takes what it is given.
const qcow2HeaderBytes = 200_704n

function parseVolume(xml: string, pool: SimPool): VolumeDef {
  const tree = parseXml(xml, 'volume')
  const name = textAt(tree, 'name')
  if (name === null) throw refuse('XML_ERROR', 'STORAGE', 'missing volume name element')
  if (name.includes('/')) throw notValid(`volume name '${name}' cannot contain '/'`, 'STORAGE')
  const block = pool.def.type === 'logical' || pool.def.type === 'iscsi' || pool.def.type === 'rbd'
  const format = block ? 'raw' : (find(tree, 'target', 'format')?.attrs['type'] ?? 'raw')
  const path = textAt(tree, 'backingStore', 'path')
  const backing = path === null ? null : { path, format: find(tree, 'backingStore', 'format')?.attrs['type'] ?? 'raw' }
  const capacity = bytesAt(find(tree, 'capacity'), 'bytes') ?? (backing ? 0n : undefined)
  if (capacity === undefined) throw refuse('XML_ERROR', 'STORAGE', 'missing capacity element')
  const wanted = bytesAt(find(tree, 'allocation'), 'bytes') ?? capacity
  return {
    name,
    format,
    capacityBytes: capacity,
    allocationBytes: format === 'raw' ? wanted : qcow2HeaderBytes,
    backing
  }
}

function requireRoom(host: SimHost, pool: SimPool, def: VolumeDef): void {
  if (pool.volumes.has(def.name) || host.file(`${pool.def.target}/${def.name}`))
    throw refuse('STORAGE_VOL_EXIST', 'STORAGE', `storage volume '${def.name}' exists already`)
  if (def.allocationBytes > pool.sizes(host).available)
    throw refuse(
      'SYSTEM_ERROR',
      'STORAGE',
      `cannot allocate ${def.allocationBytes} bytes in file '${pool.def.target}/${def.name}': No space left on device`
    )
  if (def.backing && !host.file(def.backing.path))
    throw refuse('INVALID_ARG', 'STORAGE', `inaccessible backing store volume ${def.backing.path}`)
}

function add(host: SimHost, pool: SimPool, def: VolumeDef, more: Partial<SimFile> = {}): StorageVolume {
  const path = `${pool.def.target}/${def.name}`
  const { store, inner } = host.locate(path)
  const { name, ...file } = def
  const inherited = def.capacityBytes === 0n && def.backing ? host.file(def.backing.path)?.capacityBytes : undefined
  store.create(inner, { ...file, ...(inherited === undefined ? {} : { capacityBytes: inherited }), ...more })
  pool.volumes.set(name, path)
  return { pool: pool.name, name, key: path }
}

function create(host: SimHost, pool: SimPool, xml: string): StorageVolume {
  pool.requireActive()
  const def = parseVolume(xml, pool)
  requireRoom(host, pool, def)
  const vol = add(host, pool, def)
  host.note('volume_created', { uuid: vol.key, name: vol.name })
  return vol
}

async function copy(
  host: SimHost,
  pool: SimPool,
  xml: string,
  from: StorageVolume,
  call: CallContext
): Promise<StorageVolume> {
  pool.requireActive()
  const source = volumeOf(host, from)
  const given = parseVolume(xml, pool)
  const capacityBytes =
    given.capacityBytes > source.file.capacityBytes ? given.capacityBytes : source.file.capacityBytes
  const def: VolumeDef = { ...given, capacityBytes, allocationBytes: source.file.allocationBytes }
  requireRoom(host, pool, def)
  // The file has its full size from the first moment: only the reply says that the copy is whole.
  const vol = add(host, pool, def, { partial: true })
  host.note('volume_created', { uuid: vol.key, name: vol.name }, { detail: `copy of ${source.path}` })
  if (call.halfway) return call.session.cut()
  await host.wait((host.settings.copyMsPerGiB * Number(def.allocationBytes)) / 1024 ** 3)
  const made = host.file(vol.key)
  if (!made) throw refuse('SYSTEM_ERROR', 'STORAGE', `cannot open file '${vol.key}': No such file or directory`)
  made.partial = false
  made.content = source.file.content
  host.note('volume_written', { uuid: vol.key, name: vol.name }, { detail: 'copy complete' })
  return vol
}

function resize(host: SimHost, { file, name, path }: Found, capacity: bigint, flags: number): void {
  const { DELTA, SHRINK, ALLOCATE } = StorageVolResizeFlags
  const wanted = (flags & DELTA) === 0 ? capacity : file.capacityBytes + ((flags & SHRINK) === 0 ? capacity : -capacity)
  if (wanted < file.allocationBytes && file.format === 'raw')
    throw refuse('INVALID_ARG', 'STORAGE', "can't shrink capacity below existing allocation")
  if (wanted < file.capacityBytes && (flags & SHRINK) === 0)
    throw refuse(
      'INVALID_ARG',
      'STORAGE',
      "Can't shrink capacity below current capacity unless shrink flag explicitly specified"
    )
  file.capacityBytes = wanted
  if (flags & ALLOCATE) file.allocationBytes = wanted
  file.modifiedAt = Date.now()
  host.note('volume_resized', { uuid: path, name }, { detail: String(wanted) })
}

function remove(host: SimHost, { pool, name, path }: Found): void {
  const { store, inner } = host.locate(path)
  store.files.delete(inner)
  pool.volumes.delete(name)
  host.note('volume_deleted', { uuid: path, name })
}

function xmlOf({ file, path, name }: Found): string {
  const bytes = (element: string, value: bigint) => node(element, { unit: 'bytes' }, [String(value)])
  const seconds = (file.modifiedAt / 1000).toFixed(9)
  const times = node('timestamps', {}, [
    ...['atime', 'mtime', 'ctime'].map((time) => node(time, {}, [seconds])),
    node('btime', {}, ['0'])
  ])
  const rest = [permissions('0600'), times]
  const physical = file.format === 'raw' ? file.capacityBytes : 196_616n
  const tree = node('volume', { type: 'file' }, [
    node('name', {}, [name]),
    node('key', {}, [path]),
    bytes('capacity', file.capacityBytes),
    bytes('allocation', file.allocationBytes),
    bytes('physical', physical),
    node('target', {}, [node('path', {}, [path]), node('format', { type: file.format }), ...rest])
  ])
  if (file.backing) {
    const { path: base, format } = file.backing
    tree.children.push(node('backingStore', {}, [node('path', {}, [base]), node('format', { type: format }), ...rest]))
  }
  return printXml(tree)
}

const infoOf = ({ file, pool }: Found) => ({
  type: pool.def.type === 'logical' || pool.def.type === 'iscsi' ? StorageVolType.BLOCK : StorageVolType.FILE,
  capacity: file.capacityBytes,
  allocation: file.allocationBytes
})

function byPath(host: SimHost, path: string, what: string): StorageVolume {
  for (const pool of host.pools.values()) {
    if (!pool.active) continue
    for (const [name, key] of pool.volumes) if (key === path) return { pool: pool.name, name, key }
  }
  throw refuse('NO_STORAGE_VOL', 'STORAGE', `no storage vol with matching ${what} '${path}'`)
}

export const volumeCalls: Handlers = {
  STORAGE_VOL_CREATE_XML: ({ pool, xml }, host) => ({ vol: create(host, poolOf(host, pool), xml) }),
  STORAGE_VOL_CREATE_XML_FROM: async ({ pool, xml, clonevol }, host, call) => ({
    vol: await copy(host, poolOf(host, pool), xml, clonevol, call)
  }),
  STORAGE_VOL_DELETE: ({ vol }, host) => remove(host, volumeOf(host, vol)) ?? {},
  STORAGE_VOL_RESIZE: ({ vol, capacity, flags }, host) => resize(host, volumeOf(host, vol), capacity, flags) ?? {},
  STORAGE_VOL_LOOKUP_BY_NAME: ({ pool: ref, name }, host) => {
    const pool = poolOf(host, ref)
    pool.requireActive()
    const key = pool.volumes.get(name)
    if (key === undefined) throw refuse('NO_STORAGE_VOL', 'STORAGE', `no storage vol with matching name '${name}'`)
    return { vol: { pool: pool.name, name, key } }
  },
  STORAGE_VOL_LOOKUP_BY_KEY: ({ key }, host) => ({ vol: byPath(host, key, 'key') }),
  STORAGE_VOL_LOOKUP_BY_PATH: ({ path }, host) => ({ vol: byPath(host, path, 'path') }),
  STORAGE_VOL_GET_INFO: ({ vol }, host) => infoOf(volumeOf(host, vol)),
  STORAGE_VOL_GET_INFO_FLAGS: ({ vol }, host) => infoOf(volumeOf(host, vol)),
  STORAGE_VOL_GET_PATH: ({ vol }, host) => ({ name: volumeOf(host, vol).path }),
  STORAGE_VOL_GET_XML_DESC: ({ vol }, host) => ({ xml: xmlOf(volumeOf(host, vol)) }),
  STORAGE_VOL_WIPE: ({ vol }, host) => wipe(host, volumeOf(host, vol)),
  STORAGE_VOL_WIPE_PATTERN: ({ vol }, host) => wipe(host, volumeOf(host, vol))
}

function wipe(host: SimHost, { file, name, path }: Found): Empty {
  file.content = null
  file.partial = false
  host.note('volume_written', { uuid: path, name }, { detail: 'wiped' })
  return {}
}
