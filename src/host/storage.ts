// A host's pools, volumes and networks.
import {
  ErrorCode,
  ListAllNetworksFlags,
  ListAllStoragePoolsFlags,
  StoragePoolBuildFlags
} from '../libvirt/constants.gen.ts'
import type { StoragePool, StorageVolume } from '../libvirt/wire.gen.ts'
import { quote } from '../model/name.ts'
import type { ObservedNetwork, ObservedPool, ObservedVolume } from '../model/storage.ts'
import { refusedWith, toHostError, type HostCalls } from './calls.ts'
import { HostError } from './error.ts'
import type { NewVolumeSpec } from './host.ts'
import { poolXml, targetOf, type PoolSpec } from './pool-xml.ts'
import { readPoolXml, readVolumeXml, volumeXml } from './storage-xml.ts'
import { downloadVolume, uploadVolume, type DownloadOptions, type UploadOptions } from './volume-streams.ts'
import { attributeOf, childOf, parseXml } from './xml.ts'

/** Types for which building makes the directory that they appear at. */
const MADE_DIRECTORIES: ReadonlySet<string> = new Set(['dir', 'fs', 'netfs'])
/** From here on libvirt checks a pool's definition against its schema. */
const VALIDATES_SINCE = 8_000_000
/** libvirt: include/libvirt/libvirt-storage.h, VIR_STORAGE_POOL_DEFINE_VALIDATE. */
const DEFINE_VALIDATE = 1

type PoolFlags = { active: boolean; persistent: boolean; autostart: boolean }

/** Told by type, place and, of what is elsewhere, source: what else a pool says does not make it another one. */
export function isSamePool(
  found: { type: string; target: string | null; source: string | null },
  spec: PoolSpec
): boolean {
  const asked = readPoolXml(poolXml(spec))
  return found.type === spec.type && found.source === asked.source && found.target === targetOf(spec)
}

export class Storage {
  readonly #calls: HostCalls

  constructor(calls: HostCalls) {
    this.#calls = calls
  }

  async listPools(): Promise<ObservedPool[]> {
    return this.#orNone(() => this.#listPools())
  }

  async #listPools(): Promise<ObservedPool[]> {
    const list = async (flags: number) =>
      (await this.#calls.read('CONNECT_LIST_ALL_STORAGE_POOLS', { need_results: 1, flags })).pools
    const names = async (flags: number) => new Set((await list(flags)).map((pool) => pool.name))
    const [all, active, persistent, autostart] = await Promise.all([
      list(0),
      names(ListAllStoragePoolsFlags.ACTIVE),
      names(ListAllStoragePoolsFlags.PERSISTENT),
      names(ListAllStoragePoolsFlags.AUTOSTART)
    ])
    const pools = await Promise.all(
      all.map((pool) =>
        this.#orGone(() =>
          this.#look(pool, {
            active: active.has(pool.name),
            persistent: persistent.has(pool.name),
            autostart: autostart.has(pool.name)
          })
        )
      )
    )
    return pools.filter((pool) => pool !== undefined)
  }

  async pool(name: string): Promise<ObservedPool | undefined> {
    return this.#orGone(async () => {
      const pool = await this.#find(name)
      const [active, persistent, autostart] = await Promise.all([
        this.#calls.read('STORAGE_POOL_IS_ACTIVE', { pool }),
        this.#calls.read('STORAGE_POOL_IS_PERSISTENT', { pool }),
        this.#calls.read('STORAGE_POOL_GET_AUTOSTART', { pool })
      ])
      return this.#look(pool, {
        active: active.active !== 0,
        persistent: persistent.persistent !== 0,
        autostart: autostart.autostart !== 0
      })
    })
  }

  async #look(pool: StoragePool, flags: PoolFlags): Promise<ObservedPool> {
    const [{ xml }, info, volumes] = await Promise.all([
      this.#calls.read('STORAGE_POOL_GET_XML_DESC', { pool, flags: 0 }),
      this.#calls.read('STORAGE_POOL_GET_INFO', { pool }),
      flags.active ? this.#volumes(pool) : []
    ])
    return {
      ...readPoolXml(xml),
      ...flags,
      capacityBytes: Number(info.capacity),
      allocationBytes: Number(info.allocation),
      availableBytes: Number(info.available),
      volumes
    }
  }

  async #volumes(pool: StoragePool): Promise<ObservedVolume[]> {
    let vols: StorageVolume[]
    try {
      ;({ vols } = await this.#calls.read('STORAGE_POOL_LIST_ALL_VOLUMES', { pool, need_results: 1, flags: 0 }))
    } catch (error) {
      // Stopped in between.
      if (refusedWith(error, ErrorCode.OPERATION_INVALID)) return []
      throw error
    }
    const volumes = await Promise.all(vols.map((vol) => this.#orGone(() => this.#lookVolume(vol))))
    return volumes.filter((volume) => volume !== undefined)
  }

  async #lookVolume(vol: StorageVolume): Promise<ObservedVolume> {
    const { xml } = await this.#calls.read('STORAGE_VOL_GET_XML_DESC', { vol, flags: 0 })
    return { ...readVolumeXml(xml), name: vol.name }
  }

  async volume(pool: string, name: string): Promise<ObservedVolume | undefined> {
    return this.#orGone(async () => this.#lookVolume(await this.#findVolume(pool, name)))
  }

  /** A pool of that name that is another one is not touched. */
  async definePool(spec: PoolSpec): Promise<void> {
    const found = await this.pool(spec.name)
    if (found && !isSamePool(found, spec)) {
      const what = `a ${found.type} pool at ${quote(found.target ?? found.source ?? '')}`
      const message = `${this.#calls.name} has a pool ${quote(spec.name)} already, ${what}; choose another name`
      throw new HostError('bad_input', this.#calls.name, message)
    }
    if (found?.active) return
    if (!found) await this.#define(spec)
    if (MADE_DIRECTORIES.has(spec.type) || spec.build) await this.buildPool(spec.name, spec.build)
    await this.startPool(spec.name)
  }

  async #define(spec: PoolSpec): Promise<void> {
    const { libVersion } = await this.#calls.basics()
    // Also by its schema, where the host can: the parser alone overlooks what it does not know.
    const flags = libVersion >= VALIDATES_SINCE ? DEFINE_VALIDATE : 0
    let xml: string
    try {
      xml = poolXml(spec)
    } catch (error) {
      throw toHostError(error, this.#calls.name, true)
    }
    await this.#calls.write('STORAGE_POOL_DEFINE_XML', { xml, flags })
  }

  /** Makes a directory where there is none; with `format` also a file system or volume group, never over what is there. */
  async buildPool(name: string, format = false): Promise<void> {
    const pool = await this.#find(name)
    const flags = format ? StoragePoolBuildFlags.NO_OVERWRITE : StoragePoolBuildFlags.NEW
    await this.#calls.long('STORAGE_POOL_BUILD', { pool, flags })
  }

  async startPool(name: string): Promise<void> {
    await this.#calls.long('STORAGE_POOL_CREATE', { pool: await this.#find(name), flags: 0 })
  }

  async stopPool(name: string): Promise<void> {
    await this.#calls.long('STORAGE_POOL_DESTROY', { pool: await this.#find(name) })
  }

  async setPoolAutostart(name: string, on: boolean): Promise<void> {
    await this.#calls.write('STORAGE_POOL_SET_AUTOSTART', { pool: await this.#find(name), autostart: on ? 1 : 0 })
  }

  async refreshPool(name: string): Promise<void> {
    await this.#calls.long('STORAGE_POOL_REFRESH', { pool: await this.#find(name), flags: 0 })
  }

  async undefinePool(name: string): Promise<void> {
    await this.#calls.write('STORAGE_POOL_UNDEFINE', { pool: await this.#find(name) })
  }

  async createVolume(poolName: string, spec: NewVolumeSpec): Promise<ObservedVolume> {
    const pool = await this.#find(poolName)
    const xml = volumeXml(spec, await this.#takesWhole(pool))
    const { vol } = await this.#calls.long('STORAGE_VOL_CREATE_XML', { pool, xml, flags: 0 })
    return this.#lookVolume(vol)
  }

  async copyVolume(
    poolName: string,
    spec: { name: string; format: string; capacityBytes: number | null },
    from: { pool: string; name: string }
  ): Promise<ObservedVolume> {
    const [pool, clonevol] = await Promise.all([this.#find(poolName), this.#findVolume(from.pool, from.name)])
    const capacityBytes = spec.capacityBytes ?? (await this.#lookVolume(clonevol)).capacityBytes
    const xml = volumeXml({ ...spec, capacityBytes }, await this.#takesWhole(pool))
    const { vol } = await this.#calls.long('STORAGE_VOL_CREATE_XML_FROM', { pool, xml, clonevol, flags: 0 })
    return this.#lookVolume(vol)
  }

  async #takesWhole(pool: StoragePool): Promise<boolean> {
    const { xml } = await this.#calls.read('STORAGE_POOL_GET_XML_DESC', { pool, flags: 0 })
    return readPoolXml(xml).type === 'logical'
  }

  async resizeVolume(pool: string, name: string, capacityBytes: number): Promise<ObservedVolume> {
    const vol = await this.#findVolume(pool, name)
    await this.#calls.long('STORAGE_VOL_RESIZE', { vol, capacity: BigInt(capacityBytes), flags: 0 })
    return this.#lookVolume(vol)
  }

  async deleteVolume(pool: string, name: string): Promise<void> {
    await this.#calls.long('STORAGE_VOL_DELETE', { vol: await this.#findVolume(pool, name), flags: 0 })
  }

  async uploadVolume(pool: string, name: string, source: AsyncIterable<Uint8Array>, options: UploadOptions) {
    return uploadVolume(this.#calls, await this.#findVolume(pool, name), source, options)
  }

  downloadVolume(pool: string, name: string, options?: DownloadOptions): AsyncIterable<Buffer> {
    return downloadVolume(this.#calls, () => this.#findVolume(pool, name), options)
  }

  async listNetworks(): Promise<ObservedNetwork[]> {
    return this.#orNone(() => this.#listNetworks())
  }

  async #listNetworks(): Promise<ObservedNetwork[]> {
    const list = async (flags: number) =>
      (await this.#calls.read('CONNECT_LIST_ALL_NETWORKS', { need_results: 1, flags })).nets
    const names = async (flags: number) => new Set((await list(flags)).map((net) => net.name))
    const [all, active, persistent, autostart] = await Promise.all([
      list(0),
      names(ListAllNetworksFlags.ACTIVE),
      names(ListAllNetworksFlags.PERSISTENT),
      names(ListAllNetworksFlags.AUTOSTART)
    ])
    const networks = await Promise.all(
      all.map((net) =>
        this.#orGone(async () => {
          const { xml } = await this.#calls.read('NETWORK_GET_XML_DESC', { net, flags: 0 })
          return {
            name: net.name,
            uuid: net.uuid,
            active: active.has(net.name),
            persistent: persistent.has(net.name),
            autostart: autostart.has(net.name),
            bridge: attributeOf(childOf(parseXml(xml, 'network'), 'bridge'), 'name')
          }
        })
      )
    )
    return networks.filter((network) => network !== undefined)
  }

  /** A daemon without the driver for a kind of thing has none of it. */
  async #orNone<T>(list: () => Promise<T[]>): Promise<T[]> {
    try {
      return await list()
    } catch (error) {
      if (refusedWith(error, ErrorCode.NO_SUPPORT)) return []
      throw error
    }
  }

  async #find(name: string): Promise<StoragePool> {
    return (await this.#calls.read('STORAGE_POOL_LOOKUP_BY_NAME', { name })).pool
  }

  async #findVolume(pool: string, name: string): Promise<StorageVolume> {
    return (await this.#calls.read('STORAGE_VOL_LOOKUP_BY_NAME', { pool: await this.#find(pool), name })).vol
  }

  async #orGone<T>(look: () => Promise<T>): Promise<T | undefined> {
    try {
      return await look()
    } catch (error) {
      if (refusedWith(error, ErrorCode.NO_STORAGE_POOL, ErrorCode.NO_STORAGE_VOL, ErrorCode.NO_NETWORK))
        return undefined
      throw error
    }
  }
}
