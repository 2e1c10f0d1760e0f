// Which VMs of a host use which paths: their disks, every layer below these, and what a disk is being copied to. One call a VM, and
// only definitions that mention what is asked for are read: it is asked before anything is deleted, of every host that has the store.
import type { Element } from '@xmldom/xmldom'
import { DomainXMLFlags, ErrorCode } from '../libvirt/constants.gen.ts'
import { refusedWith, type HostCalls } from './calls.ts'
import { sourceOf } from './observed-vm.ts'
import { attributeOf, childOf, childrenOf, escapeXml, parseXml } from './xml.ts'

export type DiskUser = {
  uuid: string
  name: string
  /** Has a process. */
  active: boolean
  /** Paths, devices, `pool/volume`, each as the host's XML says. */
  uses: string[]
}

export interface DiskUsers {
  /**
   * VMs of the host, running or not, whose definition has one of these texts in it. Of a running VM both what runs and what it will
   * be started with next count.
   */
  diskUsers(mentioned: readonly string[]): Promise<DiskUser[]>
}

export async function diskUsers(calls: HostCalls, mentioned: readonly string[]): Promise<DiskUser[]> {
  const texts = mentioned.map(escapeXml)
  const { domains } = await calls.read('CONNECT_LIST_ALL_DOMAINS', { need_results: 1, flags: 0 })
  const users = await Promise.all(
    domains.map(async (dom): Promise<DiskUser[]> => {
      const active = dom.id >= 0
      const read = async (flags: number) => (await calls.read('DOMAIN_GET_XML_DESC', { dom, flags })).xml
      try {
        const definitions = await Promise.all([read(0), ...(active ? [read(DomainXMLFlags.INACTIVE)] : [])])
        const uses = definitions
          .filter((xml) => texts.some((text) => xml.includes(text)))
          .flatMap((xml) => childrenOf(childOf(parseXml(xml, 'domain'), 'devices'), 'disk').flatMap(layersOf))
        return uses.length > 0 ? [{ uuid: dom.uuid, name: dom.name, active, uses: [...new Set(uses)] }] : []
      } catch (error) {
        // Gone since it was listed.
        if (refusedWith(error, ErrorCode.NO_DOMAIN)) return []
        throw error
      }
    })
  )
  return users.flat()
}

/** A circle of layers ends; no tool makes a longer chain. */
const deepest = 256

function layersOf(disk: Element): string[] {
  const found: string[] = []
  const chains: { type: string; at: Element }[] = [{ type: attributeOf(disk, 'type') ?? 'file', at: disk }]
  for (let depth = 0; depth < deepest; depth++) {
    const layer = chains.shift()
    if (!layer) break
    const source = sourceOf(layer.type, childOf(layer.at, 'source'))
    if (source !== null) found.push(source)
    for (const name of ['backingStore', 'mirror']) {
      const below = childOf(layer.at, name)
      if (below) chains.push({ type: attributeOf(below, 'type') ?? 'file', at: below })
    }
  }
  return found
}
