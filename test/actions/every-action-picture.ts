// Everything that there is on some hosts and in the database about them, as lines: what a task changed is the difference of two
// pictures. Of the simulator's own state, not of what its calls answer.
import { createHash } from 'node:crypto'
import type { Database } from '../../src/db/open.ts'
import type { SimDomain } from '../../src/sim/domain.ts'
import type { DomainDef } from '../../src/sim/domain-xml.ts'
import type { SimFleet } from '../../src/sim/fleet.ts'
import type { SimHost } from '../../src/sim/host.ts'
import type { SimStore } from '../../src/sim/store.ts'

export type Picture = readonly string[]

export async function pictureOf(database: Database, fleet: SimFleet, hosts: readonly string[]): Promise<Picture> {
  const known = hosts.flatMap((name) => fleet.hosts.find((host) => host.name === name) ?? [])
  const shared = [...fleet.stores.values()].flatMap((store) => filesOf(store, hosts))
  return [...known.flatMap(hostLines), ...shared, ...(await databaseLines(database, hosts))].toSorted()
}

function hostLines(host: SimHost): string[] {
  return [
    ...filesOf(host.localStore, null),
    ...[...host.domains.values()].flatMap(domainLines),
    ...[...host.pools.values()].map(
      ({ name, active, autostart, persistent, def }) =>
        `pool ${name}: ${flags({ active, autostart, persistent })} ${def.type} ${def.target}`
    ),
    ...[...host.networks.values()].map(
      ({ name, active, autostart, persistent }) => `network ${name}: ${flags({ active, autostart, persistent })}`
    )
  ].map((line) => `${host.name} has ${line}`)
}

function domainLines(domain: SimDomain): string[] {
  const { name, uuid, state, autostart, saved, persistent, live } = domain
  return [
    `VM ${name} ${uuid}: state ${state} ${flags({ autostart, saved: saved !== null })}`,
    ...definition('kept', persistent),
    ...definition('live', live),
    ...[...domain.snapshots.values()].flatMap((snapshot) => [
      `snapshot ${snapshot.name} of ${name}: ${snapshot.state} ${snapshot.name === domain.currentSnapshot ? 'current' : ''}`,
      ...definition(`as of ${snapshot.name}`, snapshot.def)
    ])
  ].map((line) => (line.startsWith('VM') ? line : `VM ${name} ${line}`))
}

const definition = (kind: string, def: DomainDef | null): string[] =>
  (def?.xml ?? '')
    .split('\n')
    .flatMap((line) => (line.trim() === '' || line.includes('<alias ') ? [] : [`${kind} ${line}`]))

function filesOf(store: SimStore, hosts: readonly string[] | null): string[] {
  return [...store.files.values()]
    .filter(({ path }) => hosts === null || hosts.some((host) => path.startsWith(`/${host}/`)))
    .map(({ path, format, capacityBytes, partial, content, backing }) => {
      const bytes = content ? createHash('sha256').update(content).digest('hex').slice(0, 8) : 'zeros'
      return `file ${store.name}:${path}: ${format} ${capacityBytes} ${bytes} over ${backing?.path ?? 'nothing'} ${flags({ partial })}`
    })
}

const flags = (of: Record<string, boolean>): string =>
  Object.entries(of)
    .flatMap(([name, is]) => (is ? [name] : []))
    .join(' ')

/** What the database holds of them; times and generations left out. A definition that is kept outlives its VM on purpose. */
async function databaseLines(database: Database, hosts: readonly string[]): Promise<string[]> {
  const vms = `select uuid from inventory.vm where home = any ($1) or active_on = any ($1)`
  const rows = await database.query<{ line: string }>(
    `select concat_ws(' ', 'where', host, vm, state, power, persistent) as line from inventory.whereabouts
       where host = any ($1) and state in ('active', 'defined')
     union all select concat_ws(' ', 'vm', name, uuid, home, active_on) from inventory.vm
       where gone_at is null and uuid in (${vms})
     union all select concat_ws(' ', 'label', vm, key, value) from inventory.vm_label where vm in (${vms})
     union all select concat_ws(' ', 'starts', vm, start_order, delay_seconds) from inventory.autostart where vm in (${vms})
     union all select concat_ws(' ', 'saved', vm, host) from inventory.saved_image where host = any ($1)
     union all select concat_ws(' ', 'snapshot', vm, name, host) from inventory.kept_snapshot where host = any ($1)
     union all select concat_ws(' ', 'pool', host, name, store, active, autostart) from inventory.pool where host = any ($1)
     union all select concat_ws(' ', 'volume', host, pool, name, format, capacity_bytes, backing) from inventory.volume
       where host = any ($1)
     union all select concat_ws(' ', 'network', host, name, active, autostart) from inventory.network where host = any ($1)
     union all select concat_ws(' ', 'host', name, connection, 'closed: ' || cordon_reason) from inventory.host
       where name = any ($1)
     union all select concat_ws(' ', 'label', host, key, value) from inventory.host_label where host = any ($1)
     union all select concat_ws(' ', 'cleared', host, vm, how) from inventory.cleared where host = any ($1)
     union all select concat_ws(' ', 'promised', host, vm, memory_mib) from inventory.reservation r
       where host = any ($1) and exists (select from queue.task t where t.id = r.task and t.outcome is null)
     union all select concat_ws(' ', 'image', i.name, i.store, i.volume) from inventory.image i
       where i.store in (select store from inventory.pool where host = any ($1))
     union all select concat_ws(' ', 'store', name, shared, declared) from inventory.store
       where name in (select store from inventory.pool where host = any ($1))
     union all select concat_ws(' ', 'cap', key, cap) from queue.cap where split_part(key, '/', 2) = any ($1)`,
    [hosts]
  )
  return rows.map(({ line }) => `database: ${line}`)
}

/** What went and what came, with what differs from time to time named alike, so that two runs can be compared. */
export function difference(before: Picture, after: Picture, of: string): string[] {
  const left = new Map<string, number>()
  for (const line of before) left.set(line, (left.get(line) ?? 0) - 1)
  for (const line of after) left.set(line, (left.get(line) ?? 0) + 1)
  return [...left]
    .flatMap(([line, count]) =>
      Array.from({ length: Math.abs(count) }, () => `${count < 0 ? '-' : '+'} ${alike(line, of)}`)
    )
    .toSorted()
}

const alike = (line: string, of: string): string =>
  line
    .replaceAll(/<taskomatic:vm .*\/>/g, 'OUR MARK')
    .replaceAll(of, '@')
    .replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'UUID')
    .replaceAll(/52:54:00(:[0-9a-f]{2}){3}/g, 'MAC')
    .replaceAll(/\d{4}-\d\d-\d\d[T-]\d\d[:-]?\d\d[:-]?\d\d(\.\d+)?Z?/g, 'TIME')
    .replaceAll(/\b(task[ -:]|share-)\d+/g, '$1N')
