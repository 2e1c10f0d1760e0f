// What is set on a VM that exists: its name, processors, memory, mark; and what is done to it beyond starting and stopping.
// Running guest and definition are set apart, so that a repeated attempt does only what is missing.
import {
  DomainMemoryModFlags,
  DomainMetadataType,
  DomainModificationImpact,
  DomainSaveRestoreFlags,
  DomainVcpuFlags,
  DomainXMLFlags,
  ErrorCode
} from '../libvirt/constants.gen.ts'
import { isActive, type VmMark } from '../model/vm.ts'
import { refusedWith, type HostCalls } from './calls.ts'
import { bareMarkElement, MARK_KEY, MARK_NAMESPACE } from './mark.ts'
import { powerOf } from './observed-vm.ts'
import type { DevicePlace } from './vm-devices.ts'
import { domainOf } from './vms.ts'
import { attributeOf, bytesOf, childOf, mebibytes, parseXml, textOf } from './xml.ts'

export type VmSizes = { vcpus: number; maxVcpus: number; memoryMiB: number; maxMemoryMiB: number }

export interface VmSettingsCalls {
  /** Sizes of the guest as it runs (null while off) and of its definition (null without one); undefined: no such VM. */
  vmSizes(uuid: string): Promise<Record<DevicePlace, VmSizes | null> | undefined>
  /** `maximum`: how many there can be, instead of how many there are; only of the definition. */
  setVcpus(uuid: string, vcpus: number, place: DevicePlace, options?: { maximum: boolean }): Promise<void>
  /** A running guest is only asked: its balloon driver gives memory back when it can. `maximum`: only of the definition. */
  setMemory(uuid: string, memoryMiB: number, place: DevicePlace, options?: { maximum: boolean }): Promise<void>
  /** Only of a VM that is off. Refused where it has snapshots or a saved image. */
  renameVm(uuid: string, name: string): Promise<void>
  /** As the reset button: the guest is not asked. */
  resetVm(uuid: string): Promise<void>
  /** Writes the guest's memory to a file of the host and ends it; a start that is no fresh boot goes on from there, running. */
  saveVm(uuid: string): Promise<void>
  /** Puts our mark into its metadata, running guest and definition alike; null takes it away. */
  markVm(uuid: string, mark: VmMark | null): Promise<void>
}

const { LIVE, CONFIG } = DomainModificationImpact
const flagOf = (place: DevicePlace): number => (place === 'running' ? LIVE : CONFIG)

export function vmSettingsCalls(calls: HostCalls): VmSettingsCalls {
  const stateOf = async (uuid: string) => {
    const dom = domainOf(uuid)
    const [{ state, reason }, { persistent }] = await Promise.all([
      calls.read('DOMAIN_GET_STATE', { dom, flags: 0 }),
      calls.read('DOMAIN_IS_PERSISTENT', { dom })
    ])
    return { active: isActive(powerOf(state, reason).power), persistent: persistent !== 0 }
  }
  const sizes = async (uuid: string, flags: number) =>
    sizesOf((await calls.read('DOMAIN_GET_XML_DESC', { dom: domainOf(uuid), flags })).xml)
  return {
    async vmSizes(uuid) {
      try {
        const { active, persistent } = await stateOf(uuid)
        return {
          running: active ? await sizes(uuid, 0) : null,
          definition: persistent ? await sizes(uuid, DomainXMLFlags.INACTIVE) : null
        }
      } catch (error) {
        if (refusedWith(error, ErrorCode.NO_DOMAIN)) return undefined
        throw error
      }
    },
    async setVcpus(uuid, vcpus, place, { maximum } = { maximum: false }) {
      const flags = flagOf(place) | (maximum ? DomainVcpuFlags.MAXIMUM : 0)
      await calls.long('DOMAIN_SET_VCPUS_FLAGS', { dom: domainOf(uuid), nvcpus: vcpus, flags })
    },
    async setMemory(uuid, memoryMiB, place, { maximum } = { maximum: false }) {
      const flags = flagOf(place) | (maximum ? DomainMemoryModFlags.MAXIMUM : 0)
      await calls.long('DOMAIN_SET_MEMORY_FLAGS', { dom: domainOf(uuid), memory: BigInt(memoryMiB) * 1024n, flags })
    },
    async renameVm(uuid, name) {
      await calls.write('DOMAIN_RENAME', { dom: domainOf(uuid), new_name: name, flags: 0 })
    },
    async resetVm(uuid) {
      await calls.long('DOMAIN_RESET', { dom: domainOf(uuid), flags: 0 })
    },
    // It runs after its start whatever it was before: that is what a start promises.
    async saveVm(uuid) {
      await calls.long('DOMAIN_MANAGED_SAVE', { dom: domainOf(uuid), flags: DomainSaveRestoreFlags.RUNNING })
    },
    async markVm(uuid, mark) {
      const { active, persistent } = await stateOf(uuid)
      await calls.long('DOMAIN_SET_METADATA', {
        dom: domainOf(uuid),
        type: DomainMetadataType.ELEMENT,
        metadata: mark && bareMarkElement(mark),
        key: mark && MARK_KEY,
        uri: MARK_NAMESPACE,
        flags: (active ? LIVE : 0) | (persistent ? CONFIG : 0)
      })
    }
  }
}

function sizesOf(xml: string): VmSizes {
  const domain = parseXml(xml, 'domain')
  const vcpu = childOf(domain, 'vcpu')
  const maxVcpus = Number(textOf(domain, 'vcpu') ?? 1)
  const maxMemory = bytesOf(childOf(domain, 'memory'), 'KiB')
  return {
    vcpus: Number(attributeOf(vcpu, 'current') ?? maxVcpus),
    maxVcpus,
    memoryMiB: mebibytes(bytesOf(childOf(domain, 'currentMemory'), 'KiB') || maxMemory),
    maxMemoryMiB: mebibytes(maxMemory)
  }
}
