// Devices of a VM that come and go: disks, cards, media in drives; and what is done to a disk while its guest runs.
// Running guest and definition are changed apart, so that what an earlier attempt did to one of them is not done again.
// Nothing here waits for a guest: that a device was asked back says nothing of whether the guest gives it (untilVm tells).
import type { Element } from '@xmldom/xmldom'
import {
  DomainBlockCopyFlags,
  DomainBlockJobAbortFlags,
  DomainBlockResizeFlags,
  DomainDeviceModifyFlags,
  DomainXMLFlags,
  ErrorCode
} from '../libvirt/constants.gen.ts'
import { isActive, type VmDisk, type VmNic, type VmSpec } from '../model/vm.ts'
import { refusedWith, type HostCalls } from './calls.ts'
import { HostError } from './error.ts'
import { powerOf, readVmXml } from './observed-vm.ts'
import { diskXml, nicXml } from './vm-xml.ts'
import { domainOf } from './vms.ts'
import { attributeOf, attributes, childOf, childrenOf, parseXml, printXml } from './xml.ts'

/** Which of the two is changed: the guest as it runs, or what it starts from next time. */
export type DevicePlace = 'running' | 'definition'

export type VmDevices = { disks: VmDisk[]; nics: VmNic[] }

export type NewDisk = VmSpec['disks'][number] & {
  /** Name on its bus: vdb, sda. */
  target: string
}

export type DiskCopy = { doneBytes: number; totalBytes: number }

export interface VmDeviceCalls {
  /** Devices of the guest as it runs (null while off) and of its definition (null without one); undefined: no such VM. */
  vmDevices(uuid: string): Promise<Record<DevicePlace, VmDevices | null> | undefined>
  addDisk(uuid: string, disk: NewDisk, place: DevicePlace): Promise<void>
  /** A running guest is only asked to let go of it. Nothing there: nothing is done. */
  removeDisk(uuid: string, target: string, place: DevicePlace): Promise<void>
  addNic(uuid: string, nic: VmSpec['nics'][number], place: DevicePlace): Promise<void>
  removeNic(uuid: string, mac: string, place: DevicePlace): Promise<void>
  /**
   * Another source for a disk of the definition, or another medium for a drive; a null source empties a drive.
   * `force`: although the guest has locked the drive. Rejects with HostError `bad_input` when there is no such disk.
   */
  setDiskSource(
    uuid: string,
    target: string,
    source: { path: string; format: string } | null,
    place: DevicePlace,
    options?: { force: boolean }
  ): Promise<void>
  /** Tells the running guest that its disk is larger, and makes it so. */
  resizeDisk(uuid: string, target: string, capacityBytes: number): Promise<void>
  /** Begins to copy a running guest's disk, all of its chain, into a volume that exists and is as large. */
  copyDisk(uuid: string, target: string, to: { path: string; format: string }): Promise<void>
  /** The copy that runs, or waits to be switched over to. */
  diskCopy(uuid: string, target: string): Promise<DiskCopy | undefined>
  /** The guest goes on with the copy, in its definition as well. False: the copy has not caught up yet. */
  switchToCopy(uuid: string, target: string): Promise<boolean>
  /** The guest stays where it is; what was copied is left behind. No copy: nothing is done. */
  abortCopy(uuid: string, target: string): Promise<void>
}

const flagOf = (place: DevicePlace): number =>
  place === 'running' ? DomainDeviceModifyFlags.LIVE : DomainDeviceModifyFlags.CONFIG

const isDisk = (target: string) => (element: Element) =>
  element.nodeName === 'disk' && attributeOf(childOf(element, 'target'), 'dev') === target

const isNic = (mac: string) => (element: Element) =>
  element.nodeName === 'interface' && attributeOf(childOf(element, 'mac'), 'address')?.toLowerCase() === mac

export function vmDeviceCalls(calls: HostCalls): VmDeviceCalls {
  const attach = async (uuid: string, xml: string, place: DevicePlace): Promise<void> => {
    await calls.long('DOMAIN_ATTACH_DEVICE_FLAGS', { dom: domainOf(uuid), xml, flags: flagOf(place) })
  }

  const find = async (uuid: string, place: DevicePlace, matches: (element: Element) => boolean) => {
    const text = await definitionOf(calls, uuid, place)
    return childrenOf(childOf(parseXml(text, 'domain'), 'devices')).find(matches)
  }

  const detach = async (uuid: string, place: DevicePlace, matches: (element: Element) => boolean): Promise<void> => {
    const found = await find(uuid, place, matches)
    if (!found) return
    const args = { dom: domainOf(uuid), xml: printXml(found), flags: flagOf(place) }
    try {
      await calls.long('DOMAIN_DETACH_DEVICE_FLAGS', args)
    } catch (error) {
      // Gone in between.
      if (!refusedWith(error, ErrorCode.DEVICE_MISSING)) throw error
    }
  }

  return {
    vmDevices: (uuid) => vmDevices(calls, uuid),
    addDisk: (uuid, disk, place) => attach(uuid, diskXml(disk, disk.target), place),
    removeDisk: (uuid, target, place) => detach(uuid, place, isDisk(target)),
    addNic: (uuid, nic, place) => attach(uuid, nicXml(nic), place),
    removeNic: (uuid, mac, place) => detach(uuid, place, isNic(mac.toLowerCase())),

    async setDiskSource(uuid, target, source, place, options) {
      const found = await find(uuid, place, isDisk(target))
      if (!found) throw new HostError('bad_input', calls.name, `${calls.name}: the VM has no disk ${target}`)
      const force = options?.force ? DomainDeviceModifyFlags.FORCE : 0
      await calls.long('DOMAIN_UPDATE_DEVICE_FLAGS', {
        dom: domainOf(uuid),
        xml: withSource(found, source),
        flags: flagOf(place) | force
      })
    },

    async resizeDisk(uuid, target, capacityBytes) {
      await calls.long('DOMAIN_BLOCK_RESIZE', {
        dom: domainOf(uuid),
        disk: target,
        size: BigInt(capacityBytes),
        flags: DomainBlockResizeFlags.BYTES
      })
    },

    async copyDisk(uuid, target, { path, format }) {
      const block = path.startsWith('/dev/')
      const destxml =
        `<disk${attributes({ type: block ? 'block' : 'file', device: 'disk' })}>` +
        `<driver${attributes({ name: 'qemu', type: format })}/>` +
        `<source${attributes(block ? { dev: path } : { file: path })}/>` +
        `<target${attributes({ dev: target })}/></disk>`
      // Transient: a VM with a definition is refused a copy otherwise, since it would be forgotten at a restart.
      const flags = DomainBlockCopyFlags.REUSE_EXT | DomainBlockCopyFlags.TRANSIENT_JOB
      await calls.long('DOMAIN_BLOCK_COPY', { dom: domainOf(uuid), path: target, destxml, params: [], flags })
    },

    async diskCopy(uuid, target) {
      try {
        const job = await calls.ask('DOMAIN_GET_BLOCK_JOB_INFO', { dom: domainOf(uuid), path: target, flags: 0 })
        return job.found === 0 ? undefined : { doneBytes: Number(job.cur), totalBytes: Number(job.end) }
      } catch (error) {
        // Off, or gone: then nothing is copied.
        if (refusedWith(error, ErrorCode.OPERATION_INVALID, ErrorCode.NO_DOMAIN, ErrorCode.NO_SUPPORT)) return undefined
        throw error
      }
    },

    async switchToCopy(uuid, target) {
      try {
        const flags = DomainBlockJobAbortFlags.PIVOT
        await calls.long('DOMAIN_BLOCK_JOB_ABORT', { dom: domainOf(uuid), path: target, flags })
        return true
      } catch (error) {
        if (refusedWith(error, ErrorCode.BLOCK_COPY_ACTIVE)) return false
        throw error
      }
    },

    async abortCopy(uuid, target) {
      try {
        await calls.long('DOMAIN_BLOCK_JOB_ABORT', { dom: domainOf(uuid), path: target, flags: 0 })
      } catch (error) {
        if (!refusedWith(error, ErrorCode.OPERATION_INVALID, ErrorCode.INVALID_ARG, ErrorCode.NO_DOMAIN)) throw error
      }
    }
  }
}

async function vmDevices(calls: HostCalls, uuid: string): Promise<Record<DevicePlace, VmDevices | null> | undefined> {
  const dom = domainOf(uuid)
  try {
    const [{ state, reason }, { persistent }] = await Promise.all([
      calls.read('DOMAIN_GET_STATE', { dom, flags: 0 }),
      calls.read('DOMAIN_IS_PERSISTENT', { dom })
    ])
    const devices = async (place: DevicePlace): Promise<VmDevices> => {
      const { disks, nics } = readVmXml(await definitionOf(calls, uuid, place))
      return { disks, nics }
    }
    return {
      running: isActive(powerOf(state, reason).power) ? await devices('running') : null,
      definition: persistent === 0 ? null : await devices('definition')
    }
  } catch (error) {
    if (refusedWith(error, ErrorCode.NO_DOMAIN)) return undefined
    throw error
  }
}

// With secrets: a device that is written back without them would lose them.
async function definitionOf(calls: HostCalls, uuid: string, place: DevicePlace): Promise<string> {
  const { SECURE, INACTIVE } = DomainXMLFlags
  const flags = place === 'running' ? SECURE : SECURE | INACTIVE
  return (await calls.read('DOMAIN_GET_XML_DESC', { dom: domainOf(uuid), flags })).xml
}

/** What belongs to the old source goes with it: its chain, its place in it. */
const ofSource = new Set(['source', 'backingStore', 'mirror', 'auth', 'encryption'])

function withSource(disk: Element, source: { path: string; format: string } | null): string {
  for (const child of childrenOf(disk)) if (ofSource.has(child.nodeName)) disk.removeChild(child)
  if (source === null) return printXml(disk)
  const block = source.path.startsWith('/dev/')
  disk.setAttribute('type', block ? 'block' : 'file')
  const document = disk.ownerDocument
  if (!document) return printXml(disk)
  const element = document.createElement('source')
  element.setAttribute(block ? 'dev' : 'file', source.path)
  disk.insertBefore(element, childOf(disk, 'target') ?? null)
  childOf(disk, 'driver')?.setAttribute('type', source.format)
  return printXml(disk)
}
