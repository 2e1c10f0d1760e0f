// Which domains a list's flags ask for.

import { DomainState, ListAllDomainsFlags } from '../libvirt/constants.gen.ts'
import { passes } from './call.ts'
import type { SimDomain } from './domain.ts'
import type { SimHost } from './host.ts'

export function filteredDomains(host: SimHost, flags: number): SimDomain[] {
  const f = ListAllDomainsFlags
  return [...host.domains.values()].filter((domain) => {
    const { active, state } = domain
    const { RUNNING, PAUSED, SHUTOFF } = DomainState
    return passes(flags, [
      [
        [f.ACTIVE, active],
        [f.INACTIVE, !active]
      ],
      [
        [f.PERSISTENT, domain.persistent !== null],
        [f.TRANSIENT, domain.persistent === null]
      ],
      [
        [f.RUNNING, state === RUNNING],
        [f.PAUSED, state === PAUSED],
        [f.SHUTOFF, state === SHUTOFF],
        [f.OTHER, state > SHUTOFF]
      ],
      [
        [f.MANAGEDSAVE, domain.saved !== null],
        [f.NO_MANAGEDSAVE, domain.saved === null]
      ],
      [
        [f.AUTOSTART, domain.autostart],
        [f.NO_AUTOSTART, !domain.autostart]
      ],
      [
        [f.HAS_SNAPSHOT, domain.snapshots.size > 0],
        [f.NO_SNAPSHOT, domain.snapshots.size === 0]
      ],
      [
        [f.HAS_CHECKPOINT, false],
        [f.NO_CHECKPOINT, true]
      ]
    ])
  })
}
