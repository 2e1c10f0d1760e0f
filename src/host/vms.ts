// Looking at a host's VMs, one or all. Whatever the host says of a VM is put together from several answers; a change in between
// brings an event, and so another look.
import { DomainControlState, DomainXMLFlags, ErrorCode, ListAllDomainsFlags } from '../libvirt/constants.gen.ts'
import type { Domain } from '../libvirt/wire.gen.ts'
import { isActive, type ObservedVm } from '../model/vm.ts'
import { refusedWith, type HostCalls } from './calls.ts'
import { HostError } from './error.ts'
import type { VmXmlOptions } from './host.ts'
import { listSnapshots } from './snapshots.ts'
import { powerOf, readVmXml, type VmFromXml } from './observed-vm.ts'

/** libvirt finds a domain by its UUID; the name is only for its messages. */
export const domainOf = (uuid: string, name = uuid): Domain => ({ name, uuid, id: -1 })

/** XML texts that are kept with what they say: a VM is looked at often, and its XML rarely changes. About 6 kB each. */
const KEPT_TEXTS = 256

export class Vms {
  readonly #calls: HostCalls
  readonly #read = new Map<string, VmFromXml>()

  constructor(calls: HostCalls) {
    this.#calls = calls
  }

  async look(uuid: string): Promise<ObservedVm | undefined> {
    const dom = domainOf(uuid)
    const read: HostCalls['read'] = (name, args) => this.#calls.read(name, args)
    try {
      const [state, xml, persistent, autostart, saved, snapshots] = await Promise.all([
        read('DOMAIN_GET_STATE', { dom, flags: 0 }),
        read('DOMAIN_GET_XML_DESC', { dom, flags: 0 }),
        read('DOMAIN_IS_PERSISTENT', { dom }),
        this.#optional(read('DOMAIN_GET_AUTOSTART', { dom }), { autostart: 0 }),
        this.#optional(read('DOMAIN_HAS_MANAGED_SAVE_IMAGE', { dom, flags: 0 }), { result: 0 }),
        listSnapshots(this.#calls, uuid)
      ])
      const power = powerOf(state.state, state.reason)
      return {
        ...this.#fromXml(xml.xml),
        ...power,
        persistent: persistent.persistent !== 0,
        autostart: autostart.autostart !== 0,
        hasSavedImage: saved.result !== 0,
        snapshots,
        job: isActive(power.power) ? await this.#job(dom) : null
      }
    } catch (error) {
      if (refusedWith(error, ErrorCode.NO_DOMAIN)) return undefined
      throw error
    }
  }

  async lookByName(name: string): Promise<ObservedVm | undefined> {
    try {
      const { dom } = await this.#calls.read('DOMAIN_LOOKUP_BY_NAME', { name })
      return await this.look(dom.uuid)
    } catch (error) {
      if (refusedWith(error, ErrorCode.NO_DOMAIN)) return undefined
      throw error
    }
  }

  /** All of them, with a few calls a VM: what can be listed for all at once is. */
  async list(): Promise<ObservedVm[]> {
    const list = async (flags: number) =>
      (await this.#calls.read('CONNECT_LIST_ALL_DOMAINS', { need_results: 1, flags })).domains
    const uuids = async (flags: number) => new Set((await list(flags)).map((dom) => dom.uuid))
    const [all, persistent, autostart, saved, snapshots] = await Promise.all([
      list(0),
      uuids(ListAllDomainsFlags.PERSISTENT),
      uuids(ListAllDomainsFlags.AUTOSTART),
      uuids(ListAllDomainsFlags.MANAGEDSAVE),
      uuids(ListAllDomainsFlags.HAS_SNAPSHOT)
    ])
    const seen = await Promise.all(
      all.map(async (dom): Promise<ObservedVm | undefined> => {
        try {
          const [state, xml] = await Promise.all([
            this.#calls.read('DOMAIN_GET_STATE', { dom, flags: 0 }),
            this.#calls.read('DOMAIN_GET_XML_DESC', { dom, flags: 0 })
          ])
          const power = powerOf(state.state, state.reason)
          return {
            ...this.#fromXml(xml.xml),
            ...power,
            persistent: persistent.has(dom.uuid),
            autostart: autostart.has(dom.uuid),
            hasSavedImage: saved.has(dom.uuid),
            snapshots: snapshots.has(dom.uuid) ? await listSnapshots(this.#calls, dom.uuid) : [],
            job: isActive(power.power) ? await this.#job(dom) : null
          }
        } catch (error) {
          // Gone since it was listed.
          if (refusedWith(error, ErrorCode.NO_DOMAIN)) return undefined
          throw error
        }
      })
    )
    return seen.filter((vm) => vm !== undefined)
  }

  async xml(uuid: string, options: VmXmlOptions): Promise<string> {
    let flags = 0
    if (options.inactive) flags |= DomainXMLFlags.INACTIVE
    if (options.secure) flags |= DomainXMLFlags.SECURE
    if (options.migratable) flags |= DomainXMLFlags.MIGRATABLE
    return (await this.#calls.read('DOMAIN_GET_XML_DESC', { dom: domainOf(uuid), flags })).xml
  }

  // Answers at once, whatever QEMU does: job statistics would wait for it.
  async #job(dom: Domain): Promise<string | null> {
    try {
      const { state } = await this.#calls.read('DOMAIN_GET_CONTROL_INFO', { dom, flags: 0 })
      if (state === DomainControlState.OK) return null
      return state === DomainControlState.ERROR ? 'not answering' : 'busy'
    } catch (error) {
      if (refusedWith(error, ErrorCode.NO_SUPPORT, ErrorCode.OPERATION_INVALID)) return null
      throw error
    }
  }

  /** Some drivers cannot answer everything. */
  async #optional<T>(call: Promise<T>, otherwise: T): Promise<T> {
    try {
      return await call
    } catch (error) {
      if (refusedWith(error, ErrorCode.NO_SUPPORT)) return otherwise
      throw error
    }
  }

  #fromXml(text: string): VmFromXml {
    const known = this.#read.get(text)
    if (known) return known
    let read: VmFromXml
    try {
      read = readVmXml(text)
    } catch (error) {
      const message = `${this.#calls.name} gave a definition that cannot be read: ${String(error)}`
      throw new HostError('unsupported', this.#calls.name, message, { cause: error })
    }
    if (this.#read.size >= KEPT_TEXTS)
      for (const oldest of this.#read.keys()) {
        this.#read.delete(oldest)
        break
      }
    this.#read.set(text, read)
    return read
  }
}
