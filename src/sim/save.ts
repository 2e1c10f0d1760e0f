// Managed save: a guest's memory in a file of its host, and the start that goes on from it.

import {
  DomainEventResumedDetailType,
  DomainEventStartedDetailType,
  DomainEventStoppedDetailType,
  DomainEventSuspendedDetailType,
  DomainEventType,
  DomainPausedReason,
  DomainRunningReason,
  DomainSaveRestoreFlags,
  DomainShutoffReason,
  DomainState
} from '../libvirt/constants.gen.ts'
import type { Handlers } from './call.ts'
import type { SimDomain } from './domain.ts'
import { asJob, requireActive } from './domain-rules.ts'
import type { SimHost } from './host.ts'
import { end, launch, noteStart, pause, run } from './lifecycle.ts'
import { notValid } from './refusal.ts'

const imagePath = (domain: SimDomain): string => `/var/lib/libvirt/qemu/save/${domain.name}.save`

async function save(host: SimHost, domain: SimDomain, flags: number): Promise<void> {
  await asJob(host, domain, 'save', 'DomainManagedSave', () => {
    requireActive(domain)
    if (!domain.persistent || !domain.live) throw notValid('cannot do managed save for transient domain')
    const wasPaused = domain.state === DomainState.PAUSED
    if (!wasPaused) {
      pause(host, domain, DomainPausedReason.SAVE)
      host.emitLifecycle(domain, DomainEventType.SUSPENDED, DomainEventSuspendedDetailType.PAUSED)
    }
    const paused =
      (flags & DomainSaveRestoreFlags.PAUSED) !== 0 || (wasPaused && (flags & DomainSaveRestoreFlags.RUNNING) === 0)
    domain.saved = { def: domain.live, path: imagePath(domain), paused, savedAt: Date.now() }
    host.note('saved', domain)
    end(host, domain, DomainShutoffReason.SAVED, DomainEventStoppedDetailType.SAVED)
  })
}

/** Goes on from the saved image, which is used up by it. Runs as part of the start's job. */
export function restoreSaved(host: SimHost, domain: SimDomain, options: { paused: boolean }): void {
  const image = domain.saved
  if (!image) throw notValid('there is no saved image')
  launch(host, domain, image.def, { incoming: false })
  noteStart(host, domain, 'restored')
  host.note('restored', domain)
  domain.saved = null
  host.emitLifecycle(domain, DomainEventType.STARTED, DomainEventStartedDetailType.RESTORED)
  if (image.paused || options.paused) {
    domain.reason = DomainPausedReason.USER
    host.emitLifecycle(domain, DomainEventType.SUSPENDED, DomainEventSuspendedDetailType.RESTORED)
    return
  }
  run(host, domain, DomainRunningReason.RESTORED)
  host.emitLifecycle(domain, DomainEventType.RESUMED, DomainEventResumedDetailType.FROM_SNAPSHOT)
}

export const saveCalls: Handlers = {
  DOMAIN_MANAGED_SAVE: async ({ dom, flags }, host) => (await save(host, host.domain(dom), flags)) ?? {},
  DOMAIN_HAS_MANAGED_SAVE_IMAGE: ({ dom }, host) => ({ result: host.domain(dom).saved ? 1 : 0 }),
  DOMAIN_MANAGED_SAVE_REMOVE: ({ dom }, host) => {
    host.domain(dom).saved = null
    return {}
  }
}
