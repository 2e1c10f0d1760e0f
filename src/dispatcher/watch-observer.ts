// Tells the inventory what an action saw. Each look is begun after the action acted, so that what is recorded is not older.
import type { Observer } from '../actions/action.ts'
import type { Database } from '../db/open.ts'
import type { Host } from '../host/host.ts'
import { keepBeforeEdit, keepDefinition, noteEdited, readBeforeEdit, readDefinition } from '../inventory/definitions.ts'
import { dropImage, putImage } from '../inventory/images.ts'
import { addHost, forgetHost, knownHosts, mayRunOn, setCordon } from '../inventory/hosts.ts'
import type { KnownHost } from '../inventory/hosts.ts'
import { changeLabels } from '../inventory/labels.ts'
import { loadVms } from '../inventory/load-vms.ts'
import { beginSight, recordHost, recordListing, recordPool } from '../inventory/observe.ts'
import { confirmOff, isConfirmedOff, leaveBehind } from '../inventory/maintenance.ts'
import { setCounted } from '../inventory/store-room.ts'
import { shareStore } from '../inventory/stores.ts'
import { forgetSaved, noteSaved, setAutostart } from '../inventory/vm-life.ts'
import { dropKeptSnapshots, keepSnapshots, readKeptSnapshots } from '../inventory/kept-snapshots.ts'
import { allWhereabouts, bindAllWhereabouts } from '../inventory/whereabouts.ts'
import { resource } from '../model/resource.ts'
import { unpark } from '../queue/dispatch.ts'
import { readLimits, setCap } from '../queue/limits.ts'
import { anyRoom } from './choose-host.ts'
import { gather } from './gather.ts'
import { storeRoomKey } from './store-room.ts'
import { createSights, type Sights } from './sights.ts'

export type ObserverParts = {
  database: Database
  /** For what is written of a task's own accord, which only its dispatcher may (fenced.ts). Default: the database. */
  writes?: Database
  /** HostConnections has these. `setHosts`: from now on these are the hosts that there are. */
  hosts: { host(name: string): Host; setHosts(hosts: readonly KnownHost[]): void }
  /** 32 bytes; loadDefinitionKey of src/inventory/definitions.ts. */
  definitionKey: Buffer
  /** Settles what nobody could tell of a host that was just confirmed off. */
  onConfirmedOff?: (host: string) => Promise<void>
  /** Looks at VMs, shared with the watchers; default: its own. */
  sights?: Sights
  /** A VM that has a definition there was looked at: it may be another one than before. */
  onSeen?: (host: string, uuid: string) => void
}

export function createObserver(parts: ObserverParts): Observer {
  const {
    database,
    writes = database,
    hosts,
    definitionKey,
    onConfirmedOff,
    onSeen,
    sights = createSights(database)
  } = parts
  const places = gather((uuids: string[]) => allWhereabouts(database, uuids), { atOnce: 2 })
  const bound = gather(
    async (bindings: { uuid: string; host: string }[]) => {
      await bindAllWhereabouts(database, bindings)
      return bindings
    },
    { atOnce: 2 }
  )
  // Other processes hear of it by notification; this one must not have to wait for that.
  const hostsChanged = async () => hosts.setHosts(await knownHosts(database))
  return {
    async vm(host, uuid) {
      const seen = await sights.look(hosts.host(host), uuid)
      if (seen?.persistent) onSeen?.(host, uuid)
    },
    follow: (host, uuid) => sights.follow(hosts.host(host), uuid),
    async pool(host, pool) {
      const sight = await beginSight(database)
      const seen = await hosts.host(host).pool(pool)
      await database.transaction((tx) => recordPool(tx, sight, host, pool, seen))
    },
    async host(host) {
      await observeHost(database, host, hosts.host(host))
    },
    async forgetHost(host) {
      const inTheWay = await writes.transaction(async (tx) => {
        const names = await mayRunOn(tx, host)
        if (names.length === 0) await forgetHost(tx, host)
        return names
      })
      if (inTheWay.length === 0) await hostsChanged()
      return inTheWay
    },
    async addHost(host) {
      await addHost(writes, host)
      await hostsChanged()
    },
    async setCordon(host, cordon) {
      await setCordon(writes, host, cordon)
      if (cordon) return
      // Once it is open: tasks that were bound to it, and those that fitted nowhere.
      await unpark(database, resource.hostGate(host))
      await unpark(database, anyRoom)
    },
    async confirmOff(host, statement) {
      if (!(await confirmOff(writes, host, statement))) return false
      // What waits for the host learns that it will not come, and what nobody could tell is settled.
      await unpark(database, `host/${host}`)
      await unpark(database, resource.hostGate(host))
      await onConfirmedOff?.(host)
      return true
    },
    isConfirmedOff: (host) => isConfirmedOff(database, host),
    leaveBehind: (uuid, host) => writes.transaction((tx) => leaveBehind(tx, uuid, host)),
    setImage: (name, image) => (image ? putImage(writes, { ...image, name }) : dropImage(writes, name)),
    setLabels: (kind, name, change) => writes.transaction((tx) => changeLabels(tx, kind, name, change)),
    async setLimit(key, cap) {
      const before = (await readLimits(database)).find((limit) => limit.key === key && limit.own)?.cap ?? null
      await setCap(writes, key, cap)
      return before
    },
    async setStore(store, percents) {
      const before = await setCounted(writes, store, percents)
      await unpark(database, storeRoomKey(store))
      return before
    },
    shareStore: (store, pools) => writes.transaction((tx) => shareStore(tx, store, pools)),
    whereabouts: (uuid) => places(uuid),
    vmFacts: async (uuid) => (await loadVms(database, [[uuid]])).get(resource.vm(uuid)),
    bindWhereabouts: async (uuid, host) => void (await bound({ uuid, host })),
    keepDefinition: (uuid, host, xml) => keepDefinition(writes, definitionKey, { uuid, host, xml }),
    keepSnapshots: (uuid, host, snapshots) => keepSnapshots(writes, definitionKey, { uuid, host, snapshots }),
    keptSnapshots: (uuid) => readKeptSnapshots(database, definitionKey, uuid),
    dropKeptSnapshots: (uuid) => dropKeptSnapshots(writes, uuid),
    keptDefinition: (uuid) => readDefinition(database, definitionKey, uuid),
    keepBeforeEdit: (uuid, host, xml) => keepBeforeEdit(writes, definitionKey, { uuid, host, xml }),
    noteEdited: (uuid, digest) => noteEdited(writes, uuid, digest),
    beforeEdit: (uuid) => readBeforeEdit(database, definitionKey, uuid),
    noteSaved: (uuid, host, task) => noteSaved(writes, uuid, host, task),
    forgetSaved: (uuid) => forgetSaved(writes, uuid),
    setAutostart: (uuid, start, by) => setAutostart(writes, uuid, start, by)
  }
}

/** Everything that a host says of itself and of what it has. Returns what differs from what was held true. */
export async function observeHost(database: Database, name: string, host: Host) {
  const sight = await beginSight(database)
  const [identity, listing] = await Promise.all([host.identify(), host.list()])
  return database.transaction(async (tx) => {
    await recordHost(tx, sight, name, identity)
    return recordListing(tx, sight, name, listing)
  })
}
