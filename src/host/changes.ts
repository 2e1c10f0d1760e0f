// Which events of a host are heard, and what each says in our words: that something may have changed, and of what.
import {
  DomainEventCrashedDetailType,
  DomainEventDefinedDetailType,
  DomainEventResumedDetailType,
  DomainEventShutdownDetailType,
  DomainEventStartedDetailType,
  DomainEventStoppedDetailType,
  DomainEventSuspendedDetailType,
  DomainEventType,
  DomainEventUndefinedDetailType,
  NetworkEventLifecycleType,
  StoragePoolEventLifecycleType
} from '../libvirt/constants.gen.ts'
import type { Connection } from '../libvirt/connection.ts'
import { LibvirtError } from '../libvirt/errors.ts'
import type { Domain, EventName, Events } from '../libvirt/wire.gen.ts'
import type { HostChange } from './host.ts'
import { jobOf } from './migration.ts'

type Numbers = Readonly<Record<string, number>>

const word = (numbers: Numbers | undefined, value: number): string =>
  Object.entries(numbers ?? {})
    .find(([, number]) => number === value)?.[0]
    .toLowerCase()
    .replaceAll('_', ' ') ?? String(value)

const details: Record<number, Numbers> = {
  [DomainEventType.DEFINED]: DomainEventDefinedDetailType,
  [DomainEventType.UNDEFINED]: DomainEventUndefinedDetailType,
  [DomainEventType.STARTED]: DomainEventStartedDetailType,
  [DomainEventType.SUSPENDED]: DomainEventSuspendedDetailType,
  [DomainEventType.RESUMED]: DomainEventResumedDetailType,
  [DomainEventType.STOPPED]: DomainEventStoppedDetailType,
  [DomainEventType.SHUTDOWN]: DomainEventShutdownDetailType,
  [DomainEventType.CRASHED]: DomainEventCrashedDetailType
}

const vmChange = (dom: Domain, event: string, detail = ''): HostChange => ({
  kind: 'vm',
  uuid: dom.uuid,
  name: dom.name,
  event,
  detail
})

type Translate<Name extends EventName> = (message: Events[Name]) => HostChange

// What changes all the time without changing what is recorded (the clock, the balloon) is not heard.
const heard: { readonly [Name in EventName]?: Translate<Name> } = {
  DOMAIN_EVENT_CALLBACK_LIFECYCLE: ({ dom, event, detail }) =>
    vmChange(dom, word(DomainEventType, event), word(details[event], detail)),
  DOMAIN_EVENT_CALLBACK_REBOOT: ({ dom }) => vmChange(dom, 'reboot'),
  DOMAIN_EVENT_CALLBACK_IO_ERROR_REASON: ({ dom, devAlias, reason }) =>
    vmChange(dom, 'io error', `${devAlias} ${reason}`),
  DOMAIN_EVENT_CALLBACK_WATCHDOG: ({ dom }) => vmChange(dom, 'watchdog'),
  DOMAIN_EVENT_CALLBACK_CONTROL_ERROR: ({ dom }) => vmChange(dom, 'control error'),
  DOMAIN_EVENT_BLOCK_JOB_2: ({ dom, dst }) => vmChange(dom, 'block job', dst),
  DOMAIN_EVENT_CALLBACK_DISK_CHANGE: ({ dom, devAlias }) => vmChange(dom, 'disk change', devAlias),
  DOMAIN_EVENT_CALLBACK_TRAY_CHANGE: ({ dom, devAlias }) => vmChange(dom, 'tray change', devAlias),
  DOMAIN_EVENT_CALLBACK_PMSUSPEND: ({ dom }) => vmChange(dom, 'pm suspend'),
  DOMAIN_EVENT_CALLBACK_PMWAKEUP: ({ dom }) => vmChange(dom, 'pm wakeup'),
  DOMAIN_EVENT_CALLBACK_PMSUSPEND_DISK: ({ dom }) => vmChange(dom, 'pm suspend disk'),
  DOMAIN_EVENT_CALLBACK_DEVICE_ADDED: ({ dom, devAlias }) => vmChange(dom, 'device added', devAlias),
  DOMAIN_EVENT_CALLBACK_DEVICE_REMOVED: ({ dom, devAlias }) => vmChange(dom, 'device removed', devAlias),
  DOMAIN_EVENT_CALLBACK_AGENT_LIFECYCLE: ({ dom, state }) => vmChange(dom, 'agent', state === 1 ? 'connected' : 'gone'),
  DOMAIN_EVENT_CALLBACK_METADATA_CHANGE: ({ dom }) => vmChange(dom, 'metadata change'),
  DOMAIN_EVENT_CALLBACK_MIGRATION_ITERATION: ({ dom, iteration }) =>
    vmChange(dom, 'migration iteration', String(iteration)),
  DOMAIN_EVENT_CALLBACK_JOB_COMPLETED: ({ dom, params }) => ({
    kind: 'job',
    uuid: dom.uuid,
    name: dom.name,
    progress: jobOf(params)
  }),
  STORAGE_POOL_EVENT_LIFECYCLE: ({ pool, event }) => ({
    kind: 'pool',
    name: pool.name,
    event: word(StoragePoolEventLifecycleType, event)
  }),
  STORAGE_POOL_EVENT_REFRESH: ({ pool }) => ({ kind: 'pool', name: pool.name, event: 'refreshed' }),
  NETWORK_EVENT_LIFECYCLE: ({ net, event }) => ({
    kind: 'network',
    name: net.name,
    event: word(NetworkEventLifecycleType, event)
  })
}

/** Without these the inventory would not follow the host at all. */
const needed: ReadonlySet<EventName> = new Set(['DOMAIN_EVENT_CALLBACK_LIFECYCLE'])

/** Registers on this connection; resolves once the host sends events. Drivers that lack a kind of event go without. */
export async function hearChanges(connection: Connection, emit: (change: HostChange) => void): Promise<void> {
  const hear = async <Name extends EventName>(name: Name, translate: Translate<Name>) => {
    try {
      await connection.on(name, (message) => emit(translate(message)))
    } catch (error) {
      if (needed.has(name) || !(error instanceof LibvirtError)) throw error
    }
  }
  await Promise.all(Object.entries(heard).map(([name, translate]) => hear(name as EventName, translate as never)))
}
