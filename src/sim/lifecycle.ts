// How a domain's state changes on a host: the effects, their events in libvirt's order, and the journal.
// Whether a call may do it at all is decided in domain-calls.ts.

import {
  AgentLifecycleReason,
  AgentLifecycleState,
  DomainEventResumedDetailType,
  DomainEventShutdownDetailType,
  DomainEventStartedDetailType,
  DomainEventStoppedDetailType,
  DomainEventSuspendedDetailType,
  DomainEventType,
  DomainPausedReason,
  DomainRunningReason,
  DomainShutoffReason,
  DomainState
} from '../libvirt/constants.gen.ts'
import { checkDisks, closeDisks, openDisks, setWriting } from './disks.ts'
import type { SimDomain } from './domain.ts'
import type { DomainDef } from './domain-xml.ts'
import type { SimHost } from './host.ts'
import { refuse } from './refusal.ts'

/** What can keep a definition from running here, other than memory: QEMU never refuses for that. */
function checkRunnable(host: SimHost, def: DomainDef): void {
  for (const name of def.networks) {
    const network = host.networks.get(name)
    if (!network) throw refuse('NO_NETWORK', 'NETWORK', `no network with matching name '${name}'`)
    if (!network.active) throw refuse('OPERATION_INVALID', 'NETWORK', `network '${name}' is not active`)
  }
  checkDisks(host, def)
}

/** Begins a process for `def`: it exists, paused as starting up; its disks are open unless it awaits a migration. */
export function launch(host: SimHost, domain: SimDomain, def: DomainDef, options: { incoming: boolean }): void {
  checkRunnable(host, def)
  if (!options.incoming) openDisks(host, domain, def)
  domain.live = def
  domain.id = host.nextDomainId()
  domain.startedAt = Date.now()
  domain.state = DomainState.PAUSED
  domain.reason = options.incoming ? DomainPausedReason.MIGRATION : DomainPausedReason.STARTING_UP
}

/** Boots a domain from its definition. Resolves when it runs (or is paused, if asked). */
export async function boot(
  host: SimHost,
  domain: SimDomain,
  def: DomainDef,
  options: { paused: boolean }
): Promise<void> {
  try {
    launch(host, domain, def, { incoming: false })
  } catch (error) {
    domain.reason = DomainShutoffReason.FAILED
    throw error
  }
  noteStart(host, domain)
  await host.wait(host.settings.startMs)
  if (domain.live !== def) throw refuse('OPERATION_FAILED', 'QEMU', 'domain is no longer running')
  if (options.paused) {
    domain.reason = DomainPausedReason.USER
    host.emitLifecycle(domain, DomainEventType.STARTED, DomainEventStartedDetailType.BOOTED)
    host.emitLifecycle(domain, DomainEventType.SUSPENDED, DomainEventSuspendedDetailType.PAUSED)
    return
  }
  run(host, domain, DomainRunningReason.BOOTED)
  tellAgent(host, domain)
  // QEMU's own event comes first, libvirt's after it.
  host.emitLifecycle(domain, DomainEventType.RESUMED, DomainEventResumedDetailType.UNPAUSED)
  host.emitLifecycle(domain, DomainEventType.STARTED, DomainEventStartedDetailType.BOOTED)
}

// libvirt tells of the channel when the domain starts; the agent in the guest answers a moment later.
function tellAgent(host: SimHost, domain: SimDomain): void {
  if (!domain.live?.agent) return
  const tell = (connected: boolean): void =>
    host.emit('DOMAIN_EVENT_CALLBACK_AGENT_LIFECYCLE', domain.uuid, {
      dom: domain.ref,
      state: connected ? AgentLifecycleState.CONNECTED : AgentLifecycleState.DISCONNECTED,
      reason: connected ? AgentLifecycleReason.CHANNEL : AgentLifecycleReason.DOMAIN_STARTED
    })
  tell(false)
  if (domain.guest.agent) host.after(0, () => domain.live && tell(true))
}

/** The journal's entry of a process that has begun; marked when the host's memory is now promised twice. */
export function noteStart(host: SimHost, domain: SimDomain, detail?: string): void {
  const over = host.usedMiB > host.settings.memoryMiB
  host.note('started', domain, { ...(detail ? { detail } : {}), ...(over ? { overCommitted: true } : {}) })
}

/** The guest's processors run. No event: each way of getting here has its own. */
export function run(host: SimHost, domain: SimDomain, reason: number): void {
  domain.state = DomainState.RUNNING
  domain.reason = reason
  setWriting(host, domain, true)
  if (domain.pendingReboot) {
    domain.pendingReboot = false
    host.after(0, () => reboot(host, domain))
  }
}

export function pause(host: SimHost, domain: SimDomain, reason: number): void {
  domain.state = DomainState.PAUSED
  domain.reason = reason
  setWriting(host, domain, false)
}

/** The process has ended, for whatever reason; a transient domain is gone with it. */
export function end(
  host: SimHost,
  domain: SimDomain,
  reason: number,
  detail: (typeof DomainEventStoppedDetailType)[keyof typeof DomainEventStoppedDetailType]
): void {
  if (!domain.live) return
  setWriting(host, domain, false)
  closeDisks(host, domain)
  host.cancel(domain.shutdownTimer)
  domain.shutdownTimer = null
  domain.pendingReboot = false
  domain.atReset = []
  for (const { timer } of domain.blockJobs.values()) host.cancel(timer)
  domain.blockJobs.clear()
  domain.job?.abort?.()
  domain.live = null
  domain.state = DomainState.SHUTOFF
  domain.reason = reason
  host.note('stopped', domain, { detail: stopWords[reason] ?? 'unknown' })
  host.emitLifecycle(domain, DomainEventType.STOPPED, detail)
  domain.id = -1
  if (!domain.persistent) host.removeDomain(domain)
}

const stopWords: Record<number, string> = {
  [DomainShutoffReason.SHUTDOWN]: 'shutdown',
  [DomainShutoffReason.DESTROYED]: 'destroyed',
  [DomainShutoffReason.CRASHED]: 'crashed',
  [DomainShutoffReason.MIGRATED]: 'migrated',
  [DomainShutoffReason.SAVED]: 'saved',
  [DomainShutoffReason.FAILED]: 'failed'
}

export function destroy(host: SimHost, domain: SimDomain): void {
  domain.state = DomainState.SHUTDOWN
  host.emitLifecycle(domain, DomainEventType.SHUTDOWN, DomainEventShutdownDetailType.HOST)
  end(host, domain, DomainShutoffReason.DESTROYED, DomainEventStoppedDetailType.DESTROYED)
}

/** Presses the power button: the guest ends by itself after a while, or ignores it. */
export function askToShutDown(host: SimHost, domain: SimDomain): void {
  if (domain.shutdownTimer || !domain.guest.obeysShutdown) return
  domain.shutdownTimer = host.after(domain.guest.shutdownMs ?? host.settings.shutdownMs, () => {
    domain.shutdownTimer = null
    guestOff(host, domain)
  })
}

/** The guest has switched itself off. Paused guests do nothing until they run again. */
export function guestOff(host: SimHost, domain: SimDomain): void {
  if (domain.state !== DomainState.RUNNING) return
  domain.state = DomainState.SHUTDOWN
  host.emitLifecycle(domain, DomainEventType.SHUTDOWN, DomainEventShutdownDetailType.GUEST)
  end(host, domain, DomainShutoffReason.SHUTDOWN, DomainEventStoppedDetailType.SHUTDOWN)
}

/** The guest's process has died. */
export function guestCrash(host: SimHost, domain: SimDomain): void {
  end(host, domain, DomainShutoffReason.CRASHED, DomainEventStoppedDetailType.FAILED)
}

/** A disk gave an error: QEMU pauses the guest. */
export function ioError(host: SimHost, domain: SimDomain, target: string): void {
  const disk = domain.live?.disks.find((other) => other.target === target)
  if (!domain.live || !disk) throw new Error(`${domain.name} runs without a disk ${target}`)
  const about = {
    dom: domain.ref,
    srcPath: disk.source ?? '',
    devAlias: `virtio-disk${target.charCodeAt(2) - 97}`,
    action: 1
  }
  host.emit('DOMAIN_EVENT_CALLBACK_IO_ERROR', domain.uuid, about)
  host.emit('DOMAIN_EVENT_CALLBACK_IO_ERROR_REASON', domain.uuid, { ...about, reason: 'eio' })
  pause(host, domain, DomainPausedReason.IOERROR)
  host.note('paused', domain, { detail: 'i/o error' })
  host.emitLifecycle(domain, DomainEventType.SUSPENDED, DomainEventSuspendedDetailType.IOERROR)
}

export function reboot(host: SimHost, domain: SimDomain): void {
  if (!domain.live) return
  if (domain.state !== DomainState.RUNNING) {
    domain.pendingReboot = true
    return
  }
  host.note('rebooted', domain)
  for (const act of domain.atReset.splice(0)) act()
  host.emit('DOMAIN_EVENT_CALLBACK_REBOOT', domain.uuid, { dom: domain.ref })
}
