// What is kept of VMs beyond what hosts say: saved images that may be restored, and what starts with its host.
import type { Sql } from '../db/open.ts'
import { InventoryError } from './error.ts'
import type { StartsWithHost } from './facts.ts'

/** A saved image was made and seen; it counts until the VM is seen to run anywhere. */
export async function noteSaved(sql: Sql, vm: string, host: string, task: number): Promise<void> {
  const rows = await sql.query(
    `insert into inventory.saved_image as s (vm, host, task)
     select v.uuid, $2, $3 from inventory.vm v where v.uuid = $1
     on conflict (vm) do update set
       host = excluded.host, task = excluded.task, saved_at = excluded.saved_at, generation = excluded.generation
     returning 1`,
    [vm, host, task]
  )
  if (rows.length === 0) throw new InventoryError('not_found', `VM ${vm} was never seen`)
}

/** What a saved image holds no longer fits the VM's disks, e.g. they were reverted. Without one nothing happens. */
export async function forgetSaved(sql: Sql, vm: string): Promise<void> {
  await sql.query(`delete from inventory.saved_image where vm = $1`, [vm])
}

/** These VMs began to run so long ago, by the host's event: images that are older fit their disks no more, however short the run was. */
export async function noteRuns(sql: Sql, runs: readonly { vm: string; agoMs: number }[]): Promise<void> {
  await sql.query(
    `delete from inventory.saved_image s
     using unnest($1::uuid[], $2::double precision[]) ran (vm, ago_ms)
     where s.vm = ran.vm and s.saved_at < clock_timestamp() - ran.ago_ms * interval '1 millisecond'`,
    [runs.map(({ vm }) => vm), runs.map(({ agoMs }) => agoMs)]
  )
}

/** Null: it does not start with its host. */
export async function setAutostart(sql: Sql, vm: string, start: StartsWithHost | null, by: string): Promise<void> {
  if (start === null) {
    await sql.query(`delete from inventory.autostart where vm = $1`, [vm])
    return
  }
  const rows = await sql.query(
    `insert into inventory.autostart as a (vm, start_order, delay_seconds, set_by)
     select v.uuid, $2, $3, $4 from inventory.vm v where v.uuid = $1
     on conflict (vm) do update set
       start_order = excluded.start_order, delay_seconds = excluded.delay_seconds,
       set_by = excluded.set_by, set_at = excluded.set_at
     returning 1`,
    [vm, start.order, start.delaySeconds, by]
  )
  if (rows.length === 0) throw new InventoryError('not_found', `VM ${vm} was never seen`)
}

export type BootedHost = { host: string; rebootedAt: Date }

/** Hosts that have booted and whose VMs were not asked to start since. Closed ones wait until they are open. */
export async function bootedHosts(sql: Sql): Promise<BootedHost[]> {
  return sql.query<BootedHost>(
    `select h.name as host, h.rebooted_at as "rebootedAt"
     from inventory.host h
     where h.connection = 'up' and h.cordon_reason is null
       and h.rebooted_at > coalesce(h.autostarted_at, '-infinity')
     order by h.name`
  )
}

export type Autostart = StartsWithHost & { vm: string; name: string }

/** VMs at home there that are off and start with their host, in order. */
export async function autostartsOf(sql: Sql, host: string): Promise<Autostart[]> {
  return sql.query<Autostart>(
    `select v.uuid as vm, v.name, a.start_order as "order", a.delay_seconds as "delaySeconds"
     from inventory.vm v
     join inventory.autostart a on a.vm = v.uuid
     where v.home = $1 and v.gone_at is null and v.active_on is null
     order by a.start_order, v.name, v.uuid`,
    [host]
  )
}

/** Of that boot: a later one is another. */
export async function noteAutostarted(sql: Sql, { host, rebootedAt }: BootedHost): Promise<void> {
  // A Date holds milliseconds, the database microseconds.
  await sql.query(
    `update inventory.host set autostarted_at = rebooted_at
     where name = $1 and date_trunc('milliseconds', rebooted_at) = $2`,
    [host, rebootedAt]
  )
}
