// Procedures that change a domain's life: define, start, stop, pause, undefine.

import { randomUUID } from 'node:crypto'
import {
  DomainCreateFlags,
  DomainDefineFlags,
  DomainEventDefinedDetailType,
  DomainEventResumedDetailType,
  DomainEventSuspendedDetailType,
  DomainEventType,
  DomainEventUndefinedDetailType,
  DomainPausedReason,
  DomainRunningReason,
  DomainShutdownFlags,
  DomainState,
  DomainUndefineFlags
} from '../libvirt/constants.gen.ts'
import type { Empty } from '../libvirt/wire.gen.ts'
import type { Handlers } from './call.ts'
import { openDisks } from './disks.ts'
import { SimDomain } from './domain.ts'
import { asJob, findClash, keepDefinition, requireActive, requireAgent } from './domain-rules.ts'
import { defineDomain, editDefinition } from './domain-xml.ts'
import type { SimHost } from './host.ts'
import { askToShutDown, boot, destroy, pause, reboot, run } from './lifecycle.ts'
import { notValid, refuse } from './refusal.ts'
import { restoreSaved } from './save.ts'
import { node, putChild } from './xml.ts'

function define(host: SimHost, xml: string, flags: number): SimDomain {
  const def = defineDomain(xml, { validate: (flags & DomainDefineFlags.VALIDATE) !== 0 })
  const known = findClash(host, def, { mustBeInactive: false })
  return keepDefinition(host, known ?? new SimDomain(def.uuid, def.name), def)
}

async function start(host: SimHost, domain: SimDomain, flags: number): Promise<void> {
  await asJob(host, domain, 'modify', 'DomainCreate', async () => {
    if (domain.active) throw notValid('domain is already running')
    const paused = (flags & DomainCreateFlags.START_PAUSED) !== 0
    if (domain.saved && (flags & DomainCreateFlags.START_FORCE_BOOT) === 0)
      return restoreSaved(host, domain, { paused })
    await boot(host, domain, domain.current, { paused })
    // FORCE_BOOT throws the saved image away.
    domain.saved = null
  })
}

async function createTransient(host: SimHost, xml: string, flags: number): Promise<SimDomain> {
  const def = defineDomain(xml, { validate: (flags & DomainCreateFlags.START_VALIDATE) !== 0 })
  const known = findClash(host, def, { mustBeInactive: true })
  const domain = known ?? new SimDomain(def.uuid, def.name)
  host.addDomain(domain)
  try {
    await asJob(host, domain, 'modify', 'DomainCreateXML', () =>
      boot(host, domain, def, { paused: (flags & DomainCreateFlags.START_PAUSED) !== 0 })
    )
  } catch (error) {
    if (!known) host.removeDomain(domain)
    throw error
  }
  return domain
}

function undefine(host: SimHost, domain: SimDomain, flags: number): void {
  const { MANAGED_SAVE, SNAPSHOTS_METADATA, NVRAM, KEEP_NVRAM } = DomainUndefineFlags
  if (!domain.persistent) throw notValid('cannot undefine transient domain')
  if (!domain.active && domain.snapshots.size > 0 && (flags & SNAPSHOTS_METADATA) === 0)
    throw notValid(`cannot delete inactive domain with ${domain.snapshots.size} snapshots`)
  if (domain.saved && (flags & MANAGED_SAVE) === 0)
    throw notValid('Refusing to undefine while domain managed save image exists')
  if (domain.persistent.nvram !== null && (flags & (NVRAM | KEEP_NVRAM)) === 0)
    throw notValid('cannot undefine domain with nvram')
  domain.saved = null
  domain.persistent = null
  domain.autostart = false
  if (!domain.active) {
    domain.snapshots.clear()
    host.removeDomain(domain)
  }
  host.note('undefined', domain)
  host.emitLifecycle(domain, DomainEventType.UNDEFINED, DomainEventUndefinedDetailType.REMOVED)
}

async function shutDown(host: SimHost, domain: SimDomain, flags: number): Promise<void> {
  await asJob(host, domain, 'modify', 'DomainShutdown', () => {
    if (domain.state !== DomainState.RUNNING) throw notValid('domain is not running')
    if (flags === DomainShutdownFlags.GUEST_AGENT) requireAgent(domain)
    askToShutDown(host, domain)
  })
}

async function suspend(host: SimHost, domain: SimDomain): Promise<void> {
  await asJob(host, domain, 'suspend', 'DomainSuspend', () => {
    requireActive(domain)
    if (domain.state === DomainState.PAUSED) return
    pause(host, domain, domain.job ? DomainPausedReason.MIGRATION : DomainPausedReason.USER)
    host.note('paused', domain, { detail: 'user' })
    host.emitLifecycle(domain, DomainEventType.SUSPENDED, DomainEventSuspendedDetailType.PAUSED)
  })
}

async function resume(host: SimHost, domain: SimDomain): Promise<void> {
  await asJob(host, domain, 'modify', 'DomainResume', () => {
    requireActive(domain)
    if (domain.state === DomainState.RUNNING) throw notValid('domain is already running')
    if (!domain.holdsDisks && domain.live) openDisks(host, domain, domain.live)
    run(host, domain, DomainRunningReason.UNPAUSED)
    host.note('running', domain, { detail: 'resumed' })
    host.emitLifecycle(domain, DomainEventType.RESUMED, DomainEventResumedDetailType.UNPAUSED)
  })
}

function rename(host: SimHost, domain: SimDomain, name: string): void {
  if (domain.active) throw notValid('cannot rename active domain')
  if (!domain.persistent) throw notValid('cannot rename a transient domain')
  if (domain.snapshots.size > 0) throw notValid('cannot rename domain with snapshots')
  if (domain.saved) throw notValid("domain with a managed saved state can't be renamed")
  if (name.includes('/')) throw refuse('XML_ERROR', 'DOMAIN', `name ${name} cannot contain '/'`)
  const other = host.domainByName(name)
  if (other) throw refuse('OPERATION_INVALID', 'QEMU', `domain with name '${name}' already exists`)
  const { UNDEFINED, DEFINED } = DomainEventType
  host.emitLifecycle(domain, UNDEFINED, DomainEventUndefinedDetailType.RENAMED)
  host.renameDomain(domain, name)
  domain.persistent = editDefinition(domain.persistent, (tree) => putChild(tree, node('name', {}, [name])))
  host.note('defined', domain, { detail: 'renamed' })
  host.emitLifecycle(domain, DEFINED, DomainEventDefinedDetailType.RENAMED)
}

export const domainCalls: Handlers = {
  DOMAIN_DEFINE_XML: ({ xml }, host) => ({ dom: define(host, xml, 0).ref }),
  DOMAIN_DEFINE_XML_FLAGS: ({ xml, flags }, host) => ({ dom: define(host, xml, flags).ref }),
  DOMAIN_CREATE_XML: async ({ xml_desc, flags }, host) => ({ dom: (await createTransient(host, xml_desc, flags)).ref }),
  DOMAIN_UNDEFINE: ({ dom }, host) => undefine(host, host.domain(dom), 0) ?? {},
  DOMAIN_UNDEFINE_FLAGS: ({ dom, flags }, host) => undefine(host, host.domain(dom), flags) ?? {},
  DOMAIN_CREATE: async ({ dom }, host) => (await start(host, host.domain(dom), 0)) ?? {},
  DOMAIN_CREATE_WITH_FLAGS: async ({ dom, flags }, host) => {
    const domain = host.domain(dom)
    await start(host, domain, flags)
    return { dom: domain.ref }
  },
  DOMAIN_SHUTDOWN: async ({ dom }, host) => (await shutDown(host, host.domain(dom), 0)) ?? {},
  DOMAIN_SHUTDOWN_FLAGS: async ({ dom, flags }, host) => (await shutDown(host, host.domain(dom), flags)) ?? {},
  DOMAIN_DESTROY: ({ dom }, host) => forceOff(host, host.domain(dom)),
  DOMAIN_DESTROY_FLAGS: ({ dom }, host) => forceOff(host, host.domain(dom)),
  DOMAIN_SUSPEND: async ({ dom }, host) => (await suspend(host, host.domain(dom))) ?? {},
  DOMAIN_RESUME: async ({ dom }, host) => (await resume(host, host.domain(dom))) ?? {},
  DOMAIN_REBOOT: ({ dom }, host) => rebootLater(host, host.domain(dom), 'DomainReboot'),
  DOMAIN_RESET: ({ dom }, host) => rebootLater(host, host.domain(dom), 'DomainReset'),
  DOMAIN_SET_AUTOSTART: ({ dom, autostart }, host) => {
    const domain = host.domain(dom)
    if (!domain.persistent) throw notValid('cannot set autostart for transient domain')
    domain.autostart = autostart !== 0
    host.note('autostart', domain, { detail: domain.autostart ? 'on' : 'off' })
    return {}
  },
  DOMAIN_RENAME: ({ dom, new_name }, host) => {
    rename(host, host.domain(dom), new_name ?? randomUUID())
    return { retcode: 0 }
  }
}

const forceOff = (host: SimHost, domain: SimDomain): Promise<Empty> =>
  asJob(host, domain, 'destroy', 'DomainDestroy', () => {
    requireActive(domain)
    destroy(host, domain)
    return {}
  })

const rebootLater = (host: SimHost, domain: SimDomain, name: string): Promise<Empty> =>
  asJob(host, domain, 'modify', name, () => {
    requireActive(domain)
    reboot(host, domain)
    return {}
  })
