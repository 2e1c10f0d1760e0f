// Devices that come and go: attach, detach, update, on the running guest, its definition, or both.

import { DomainModificationImpact, DomainState } from '../libvirt/constants.gen.ts'
import type { Handlers } from './call.ts'
import { checkDisks, closeDisks, openDisks, setWriting } from './disks.ts'
import type { SimDomain } from './domain.ts'
import { asJob } from './domain-rules.ts'
import { type DomainDef, editDefinition, readDisk, recompleted } from './domain-xml.ts'
import type { SimHost } from './host.ts'
import { aliases } from './live-xml.ts'
import { notValid, refuse } from './refusal.ts'
import { elements, find, parseXml, printXml, putChild, type XmlNode } from './xml.ts'

type Change = (def: DomainDef) => DomainDef

/** Carries a change out where the flags say: the running guest, the definition, or what is current. */
export async function modify(
  host: SimHost,
  domain: SimDomain,
  flags: number,
  name: string,
  change: { live: Change; config: Change }
): Promise<void> {
  const { LIVE, CONFIG } = DomainModificationImpact
  await asJob(host, domain, 'modify', name, () => {
    const wantsLive = (flags & LIVE) !== 0 || ((flags & 3) === 0 && domain.active)
    const wantsConfig = (flags & CONFIG) !== 0 || ((flags & 3) === 0 && !domain.active)
    if (wantsLive && !domain.active) throw notValid('domain is not running', 'DOMAIN')
    if (wantsConfig && !domain.persistent)
      throw notValid('transient domains do not have any persistent config', 'DOMAIN')
    const config = wantsConfig && domain.persistent ? change.config(domain.persistent) : null
    if (wantsLive && domain.live) replaceLive(host, domain, change.live(domain.live))
    if (config) domain.persistent = config
  })
}

/** Another live definition, with its disks opened and the old one's closed. */
function replaceLive(host: SimHost, domain: SimDomain, def: DomainDef): void {
  const before = domain.live
  if (!before || def === before) return
  const held = domain.holdsDisks
  if (held) closeDisks(host, domain)
  try {
    checkDisks(host, def)
    if (held) openDisks(host, domain, def)
    domain.live = def
  } catch (error) {
    if (held) openDisks(host, domain, before)
    throw error
  } finally {
    setWriting(host, domain, domain.state === DomainState.RUNNING)
  }
}

/** Whether two descriptions mean the same device, as libvirt matches them for detach and update. */
function same(a: XmlNode, b: XmlNode): boolean {
  if (a.name !== b.name) return false
  const attr = (device: XmlNode, child: string, name: string): string | undefined => find(device, child)?.attrs[name]
  if (a.name === 'disk') return attr(a, 'target', 'dev') === attr(b, 'target', 'dev')
  if (a.name === 'interface')
    return attr(a, 'mac', 'address')?.toLowerCase() === attr(b, 'mac', 'address')?.toLowerCase()
  return printXml(find(a, 'address') ?? a) === printXml(find(b, 'address') ?? b)
}

function attached(def: DomainDef, device: XmlNode): DomainDef {
  return recompleted(def, (devices) => {
    const target = find(device, 'target')?.attrs['dev']
    if (device.name === 'disk' && elements(devices, 'disk').some((other) => same(other, device)))
      throw refuse('OPERATION_FAILED', 'QEMU', `target ${target ?? ''} already exists`)
    devices.children.push(device)
  })
}

function absent(device: XmlNode): Error {
  if (device.name === 'disk')
    return refuse('DEVICE_MISSING', 'QEMU', `disk ${find(device, 'target')?.attrs['dev'] ?? ''} not found`)
  if (device.name === 'interface')
    return refuse(
      'DEVICE_MISSING',
      'QEMU',
      `no device matching MAC address ${find(device, 'mac')?.attrs['address'] ?? ''} found`
    )
  return refuse('DEVICE_MISSING', 'QEMU', `device ${device.name} not found`)
}

function without(def: DomainDef, device: XmlNode): DomainDef {
  return editDefinition(def, (tree) => {
    const devices = find(tree, 'devices')
    const found = elements(devices).find((other) => same(other, device))
    if (!devices || !found) throw absent(device)
    devices.children = devices.children.filter((other) => other !== found)
  })
}

function updated(def: DomainDef, device: XmlNode): DomainDef {
  return editDefinition(def, (tree) => {
    const found = elements(find(tree, 'devices')).find((other) => same(other, device))
    if (!found) throw absent(device)
    // A medium, a link, a bandwidth: the parts that can change keep the device's place and address.
    found.children = found.children.filter(
      (part) => typeof part !== 'string' && !(part.name === 'source' && device.name === 'disk')
    )
    for (const part of elements(device)) if (part.name !== 'address' && part.name !== 'target') putChild(found, part)
  })
}

function aliasIn(def: DomainDef, device: XmlNode): string | undefined {
  for (const { alias, device: other } of aliases(def)) if (same(other, device)) return alias
  return undefined
}

async function attach(host: SimHost, domain: SimDomain, xml: string, flags: number): Promise<void> {
  const device = parseXml(xml)
  await modify(host, domain, flags, 'DomainAttachDeviceFlags', {
    config: (def) => attached(def, device),
    live: (def) => {
      if (device.name === 'disk') checkDisks(host, { ...def, disks: [readDisk(device)] })
      return attached(def, device)
    }
  })
  host.note('device', domain, { detail: `attached ${device.name}` })
  const alias = domain.live ? aliasIn(domain.live, device) : undefined
  if (alias !== undefined)
    host.emit('DOMAIN_EVENT_CALLBACK_DEVICE_ADDED', domain.uuid, { dom: domain.ref, devAlias: alias })
}

/** The guest is asked to give the device up: the call succeeds even where it does so only at its next reset. */
async function detach(host: SimHost, domain: SimDomain, device: XmlNode, flags: number): Promise<void> {
  const alias = domain.live ? aliasIn(domain.live, device) : undefined
  await modify(host, domain, flags, 'DomainDetachDeviceFlags', {
    config: (def) => without(def, device),
    live: (def) => {
      const rest = without(def, device)
      return domain.guest.releasesDevices ? rest : def
    }
  })
  if (alias === undefined || !domain.live) return
  const gone = (): void => {
    host.note('device', domain, { detail: `detached ${device.name}` })
    host.emit('DOMAIN_EVENT_CALLBACK_DEVICE_REMOVED', domain.uuid, { dom: domain.ref, devAlias: alias })
  }
  if (aliasIn(domain.live, device) === undefined) gone()
  else if (!domain.guest.releasesDevices)
    domain.atReset.push(() => {
      if (!domain.live) return
      replaceLive(host, domain, without(domain.live, device))
      gone()
    })
}

export const deviceCalls: Handlers = {
  DOMAIN_ATTACH_DEVICE_FLAGS: async ({ dom, xml, flags }, host) =>
    (await attach(host, host.domain(dom), xml, flags)) ?? {},
  DOMAIN_DETACH_DEVICE_FLAGS: async ({ dom, xml, flags }, host) =>
    (await detach(host, host.domain(dom), parseXml(xml), flags)) ?? {},
  DOMAIN_DETACH_DEVICE_ALIAS: async ({ dom, alias, flags }, host) => {
    const domain = host.domain(dom)
    const found = aliases(domain.current).find((other) => other.alias === alias)
    if (!found) throw refuse('DEVICE_MISSING', 'QEMU', `no device found with alias ${alias}`)
    await detach(host, domain, found.device, flags)
    return {}
  },
  DOMAIN_UPDATE_DEVICE_FLAGS: async ({ dom, xml, flags }, host) => {
    const domain = host.domain(dom)
    const device = parseXml(xml)
    const change = (def: DomainDef): DomainDef => updated(def, device)
    await modify(host, domain, flags & 3, 'DomainUpdateDeviceFlags', { live: change, config: change })
    host.note('device', domain, { detail: `updated ${device.name}` })
    return {}
  }
}
