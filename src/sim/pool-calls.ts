// Procedures about storage pools.

import {
  ListAllStoragePoolsFlags,
  StoragePoolBuildFlags,
  StoragePoolCreateFlags,
  StoragePoolEventLifecycleType,
  StoragePoolState
} from '../libvirt/constants.gen.ts'
import { type Handlers, listed, passes } from './call.ts'
import type { SimHost } from './host.ts'
import { parsePool, type PoolDef, SimPool } from './pool.ts'
import { notValid, refuse } from './refusal.ts'

type Ref = { name: string; uuid: string }

export function poolOf(host: SimHost, ref: Ref): SimPool {
  for (const pool of host.pools.values()) if (pool.uuid === ref.uuid) return pool
  throw refuse('NO_STORAGE_POOL', 'STORAGE', `no storage pool with matching uuid '${ref.uuid}' (${ref.name})`)
}

export function poolByName(host: SimHost, name: string): SimPool {
  const pool = host.pools.get(name)
  if (!pool) throw refuse('NO_STORAGE_POOL', 'STORAGE', `no storage pool with matching name '${name}'`)
  return pool
}

function tell(host: SimHost, pool: SimPool, event: keyof typeof StoragePoolEventLifecycleType): void {
  host.emit('STORAGE_POOL_EVENT_LIFECYCLE', pool.uuid, {
    pool: pool.ref,
    event: StoragePoolEventLifecycleType[event],
    detail: 0
  })
}

function findClash(host: SimHost, def: PoolDef): SimPool | undefined {
  const named = host.pools.get(def.name)
  if (named && named.uuid !== def.uuid)
    throw refuse('OPERATION_FAILED', 'STORAGE', `pool '${def.name}' already exists with uuid ${named.uuid}`)
  for (const other of host.pools.values()) {
    if (other === named) continue
    if (other.uuid === def.uuid)
      throw refuse('OPERATION_FAILED', 'STORAGE', `pool '${other.name}' is already defined with uuid ${def.uuid}`)
    const same =
      def.source === null
        ? other.def.source === null && other.def.target === def.target
        : other.def.source === def.source
    if (same && other.def.type === def.type)
      throw refuse('OPERATION_FAILED', 'STORAGE', `Storage source conflict with pool: '${other.name}'`)
  }
  return named
}

function define(host: SimHost, xml: string): SimPool {
  const def = parsePool(xml)
  const pool = findClash(host, def) ?? new SimPool(def, true)
  pool.def = def
  pool.persistent = true
  host.pools.set(pool.name, pool)
  host.note('pool_defined', pool)
  tell(host, pool, 'DEFINED')
  return pool
}

function start(host: SimHost, pool: SimPool, flags: number): void {
  if (pool.active) throw notValid(`storage pool '${pool.name}' is already active`, 'STORAGE')
  if (flags & StoragePoolCreateFlags.WITH_BUILD) build(host, pool, 0)
  if (flags & StoragePoolCreateFlags.WITH_BUILD_NO_OVERWRITE) build(host, pool, StoragePoolBuildFlags.NO_OVERWRITE)
  if (flags & StoragePoolCreateFlags.WITH_BUILD_OVERWRITE) build(host, pool, StoragePoolBuildFlags.OVERWRITE)
  pool.start(host)
  host.note('pool_started', pool)
  tell(host, pool, 'STARTED')
}

function build(host: SimHost, pool: SimPool, flags: number): void {
  if (pool.active) throw notValid(`storage pool '${pool.name}' is already active`, 'STORAGE')
  const { store, inner } = host.locate(pool.def.target)
  if (flags & StoragePoolBuildFlags.OVERWRITE && pool.def.type !== 'dir')
    for (const file of store.list(inner)) store.files.delete(file.path)
  store.makeDirectory(inner)
  host.note('pool_built', pool)
  tell(host, pool, 'CREATED')
}

function stop(host: SimHost, pool: SimPool): void {
  pool.requireActive()
  if (pool.def.source !== null) host.unmount(pool.def.target)
  pool.active = false
  pool.volumes.clear()
  if (!pool.persistent) host.pools.delete(pool.name)
  host.note('pool_stopped', pool)
  tell(host, pool, 'STOPPED')
}

function remove(host: SimHost, pool: SimPool): void {
  if (pool.active) throw notValid(`storage pool '${pool.name}' is still active`, 'STORAGE')
  const { store, inner } = host.locate(pool.def.target)
  if (!store.directories.has(inner))
    throw refuse('SYSTEM_ERROR', 'STORAGE', `failed to remove pool '${pool.def.target}': No such file or directory`)
  if (store.list(inner).length > 0)
    throw refuse('SYSTEM_ERROR', 'STORAGE', `failed to remove pool '${pool.def.target}': Directory not empty`)
  store.directories.delete(inner)
  host.note('pool_deleted', pool)
  tell(host, pool, 'DELETED')
}

function undefine(host: SimHost, pool: SimPool): void {
  if (pool.active) throw notValid(`storage pool '${pool.name}' is still active`, 'STORAGE')
  host.pools.delete(pool.name)
  host.note('pool_undefined', pool)
  tell(host, pool, 'UNDEFINED')
}

function filtered(host: SimHost, flags: number): SimPool[] {
  const f = ListAllStoragePoolsFlags
  return [...host.pools.values()].filter((pool) =>
    passes(flags, [
      [
        [f.ACTIVE, pool.active],
        [f.INACTIVE, !pool.active]
      ],
      [
        [f.PERSISTENT, pool.persistent],
        [f.TRANSIENT, !pool.persistent]
      ],
      [
        [f.AUTOSTART, pool.autostart],
        [f.NO_AUTOSTART, !pool.autostart]
      ],
      poolTypes.map((type) => [f[type], pool.def.type === type.toLowerCase().replace('_', '-')])
    ])
  )
}

const poolTypes = [
  'DIR',
  'FS',
  'NETFS',
  'LOGICAL',
  'DISK',
  'ISCSI',
  'SCSI',
  'MPATH',
  'RBD',
  'GLUSTER',
  'ZFS',
  'ISCSI_DIRECT'
] as const

export const poolCalls: Handlers = {
  CONNECT_LIST_ALL_STORAGE_POOLS: ({ need_results, flags }, host) => {
    const { items, ret } = listed(filtered(host, flags), need_results)
    return { pools: items.map((pool) => pool.ref), ret }
  },
  STORAGE_POOL_LOOKUP_BY_NAME: ({ name }, host) => ({ pool: poolByName(host, name).ref }),
  STORAGE_POOL_LOOKUP_BY_UUID: ({ uuid }, host) => {
    for (const pool of host.pools.values()) if (pool.uuid === uuid) return { pool: pool.ref }
    throw refuse('NO_STORAGE_POOL', 'STORAGE', `no storage pool with matching uuid '${uuid}'`)
  },
  STORAGE_POOL_LOOKUP_BY_TARGET_PATH: ({ path }, host) => {
    for (const pool of host.pools.values()) if (pool.active && pool.def.target === path) return { pool: pool.ref }
    throw refuse('NO_STORAGE_POOL', 'STORAGE', `no storage pool with matching target path '${path}'`)
  },
  STORAGE_POOL_LOOKUP_BY_VOLUME: ({ vol }, host) => ({ pool: poolByName(host, vol.pool).ref }),
  STORAGE_POOL_DEFINE_XML: ({ xml }, host) => ({ pool: define(host, xml).ref }),
  STORAGE_POOL_CREATE_XML: ({ xml, flags }, host) => {
    const def = parsePool(xml)
    const known = findClash(host, def)
    const pool = known ?? new SimPool(def, false)
    start(host, pool, flags)
    host.pools.set(pool.name, pool)
    return { pool: pool.ref }
  },
  STORAGE_POOL_CREATE: ({ pool, flags }, host) => start(host, poolOf(host, pool), flags) ?? {},
  STORAGE_POOL_BUILD: ({ pool, flags }, host) => build(host, poolOf(host, pool), flags) ?? {},
  STORAGE_POOL_DESTROY: ({ pool }, host) => stop(host, poolOf(host, pool)) ?? {},
  STORAGE_POOL_DELETE: ({ pool }, host) => remove(host, poolOf(host, pool)) ?? {},
  STORAGE_POOL_UNDEFINE: ({ pool }, host) => undefine(host, poolOf(host, pool)) ?? {},
  STORAGE_POOL_REFRESH: ({ pool: ref }, host) => {
    const pool = poolOf(host, ref)
    pool.requireActive()
    pool.refresh(host)
    host.emit('STORAGE_POOL_EVENT_REFRESH', pool.uuid, { pool: pool.ref })
    return {}
  },
  STORAGE_POOL_GET_INFO: ({ pool: ref }, host) => {
    const pool = poolOf(host, ref)
    return { state: pool.active ? StoragePoolState.RUNNING : StoragePoolState.INACTIVE, ...pool.sizes(host) }
  },
  STORAGE_POOL_GET_XML_DESC: ({ pool }, host) => ({ xml: poolOf(host, pool).xml(host) }),
  STORAGE_POOL_GET_AUTOSTART: ({ pool }, host) => ({ autostart: poolOf(host, pool).autostart ? 1 : 0 }),
  STORAGE_POOL_SET_AUTOSTART: ({ pool: ref, autostart }, host) => {
    const pool = poolOf(host, ref)
    if (!pool.persistent) throw refuse('INTERNAL_ERROR', 'STORAGE', `pool '${pool.name}' has no config file`)
    pool.autostart = autostart !== 0
    return {}
  },
  STORAGE_POOL_IS_ACTIVE: ({ pool }, host) => ({ active: poolOf(host, pool).active ? 1 : 0 }),
  STORAGE_POOL_IS_PERSISTENT: ({ pool }, host) => ({ persistent: poolOf(host, pool).persistent ? 1 : 0 }),
  STORAGE_POOL_NUM_OF_VOLUMES: ({ pool: ref }, host) => {
    const pool = poolOf(host, ref)
    pool.requireActive()
    return { num: pool.volumes.size }
  },
  STORAGE_POOL_LIST_ALL_VOLUMES: ({ pool: ref, need_results }, host) => {
    const pool = poolOf(host, ref)
    pool.requireActive()
    const { items, ret } = listed([...pool.volumes], need_results)
    return { vols: items.map(([name, key]) => ({ pool: pool.name, name, key })), ret }
  }
}
