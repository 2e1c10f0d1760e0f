// Rules that several groups of procedures share: a domain's job, who may have a name, what must be running.

import { DomainEventDefinedDetailType, DomainEventType, DomainState } from '../libvirt/constants.gen.ts'
import type { SimDomain } from './domain.ts'
import type { DomainDef } from './domain-xml.ts'
import type { SimHost } from './host.ts'
import type { JobKind } from './job.ts'
import { notValid, refuse } from './refusal.ts'

/** Runs `act` as the domain's job, waiting for one that is under way. */
export const asJob = <T>(
  host: SimHost,
  domain: SimDomain,
  kind: JobKind,
  name: string,
  act: () => T | Promise<T>
): Promise<T> => domain.lock.run(kind, `remoteDispatch${name}`, host.settings.jobWaitMs, act)

export function requireActive(domain: SimDomain): void {
  if (!domain.active) throw notValid('domain is not running', 'DOMAIN')
}

/** Refuses a definition whose name or UUID belongs to another domain; returns the domain that it would update. */
export function findClash(host: SimHost, def: DomainDef, options: { mustBeInactive: boolean }): SimDomain | undefined {
  const same = host.domains.get(def.uuid)
  if (same && same.name !== def.name)
    throw refuse('OPERATION_FAILED', 'DOMAIN', `domain '${same.name}' is already defined with uuid ${def.uuid}`)
  if (same?.active && options.mustBeInactive) throw notValid(`domain '${same.name}' is already active`, 'DOMAIN')
  const other = host.domainByName(def.name)
  if (other && other.uuid !== def.uuid)
    throw refuse('OPERATION_FAILED', 'DOMAIN', `domain '${def.name}' already exists with uuid ${other.uuid}`)
  return same
}

/** Makes `def` the domain's lasting definition, and says so. */
export function keepDefinition(host: SimHost, domain: SimDomain, def: DomainDef): SimDomain {
  const updated = domain.persistent !== null
  domain.persistent = def
  host.addDomain(domain)
  host.note('defined', domain, { detail: updated ? 'updated' : 'added' })
  const { ADDED, UPDATED } = DomainEventDefinedDetailType
  host.emitLifecycle(domain, DomainEventType.DEFINED, updated ? UPDATED : ADDED)
  return domain
}

/** Refuses what needs the guest's agent where there is none, or none that answers. */
export function requireAgent(domain: SimDomain): void {
  if (!domain.current.agent) throw refuse('ARGUMENT_UNSUPPORTED', 'QEMU', 'QEMU guest agent is not configured')
  if (!domain.guest.agent || domain.state !== DomainState.RUNNING)
    throw refuse('AGENT_UNRESPONSIVE', 'QEMU', 'QEMU guest agent is not connected')
}
