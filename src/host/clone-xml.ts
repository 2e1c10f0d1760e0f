// A definition as that of another VM: its own disks, cards and identity, everything else as it was.
import type { Element } from '@xmldom/xmldom'
import { attributeOf, childOf, childrenOf, parseXml, printXml, textOf } from './xml.ts'

export type CloneChanges = {
  uuid: string
  name: string
  /** By the disk's name on its bus (vda). Disks that are not named stay as they are. */
  disks: Record<string, { path: string; format: string }>
  /** In the order of the cards. */
  macs: readonly string[]
  /** Where the firmware keeps its variables from now on; they begin anew. */
  variables: string | null
}

/** @throws XmlError */
export function cloneXml(xml: string, changes: CloneChanges): string {
  const domain = parseXml(xml, 'domain')
  setText(domain, 'uuid', changes.uuid)
  setText(domain, 'name', changes.name)
  // Guests that know it by this must know that they are another one.
  const generation = childOf(domain, 'genid')
  if (generation) generation.textContent = ''
  for (const entry of childrenOf(childOf(domain, 'sysinfo', 'system'), 'entry'))
    if (attributeOf(entry, 'name') === 'uuid') entry.textContent = changes.uuid
  const variables = childOf(domain, 'os', 'nvram')
  if (variables && changes.variables !== null) variables.textContent = changes.variables
  const devices = childOf(domain, 'devices')
  for (const disk of childrenOf(devices, 'disk')) {
    const to = changes.disks[attributeOf(childOf(disk, 'target'), 'dev') ?? '']
    if (to) setDisk(disk, to)
  }
  for (const [index, nic] of childrenOf(devices, 'interface').entries()) setMac(nic, changes.macs[index])
  return printXml(domain)
}

/** Where the firmware keeps its variables; null where it has none of its own. */
export const variablesOf = (xml: string): string | null => textOf(parseXml(xml, 'domain'), 'os', 'nvram')

function setText(parent: Element, name: string, value: string): void {
  const element = childOf(parent, name) ?? parent.ownerDocument?.createElement(name)
  if (!element) return
  element.textContent = value
  if (!element.parentNode) parent.insertBefore(element, parent.firstChild)
}

function setDisk(disk: Element, { path, format }: { path: string; format: string }): void {
  const document = disk.ownerDocument
  disk.setAttribute('type', 'file')
  // What lies below is found in the volume itself, and may not be what lay below the other.
  for (const name of ['source', 'backingStore', 'mirror'])
    for (const old of childrenOf(disk, name)) disk.removeChild(old)
  const source = document?.createElement('source')
  if (source) {
    source.setAttribute('file', path)
    disk.insertBefore(source, childOf(disk, 'target') ?? null)
  }
  childOf(disk, 'driver')?.setAttribute('type', format)
}

function setMac(nic: Element, address: string | undefined): void {
  const mac = childOf(nic, 'mac')
  if (address !== undefined) mac?.setAttribute('address', address)
  else if (mac) nic.removeChild(mac)
}
