// What a clear asks of the inventory, and what it leaves for the restore: the VMs of a host, and what was taken from it.
import type { Sql } from '../db/open.ts'

export type VmOfHost = { uuid: string; name: string; active: boolean }

/** Active there, or at home there while off; by name. A second definition of a VM that lives elsewhere is not its VM. */
export async function vmsOfHost(sql: Sql, host: string): Promise<VmOfHost[]> {
  return sql.query<VmOfHost>(
    `select v.uuid, v.name, w.state = 'active' as active
     from inventory.whereabouts w
     join inventory.vm v on v.uuid = w.vm
     where w.host = $1 and (w.state = 'active' or (w.state = 'defined' and v.home = w.host))
     order by v.name collate "C", v.uuid`,
    [host]
  )
}

export type ActiveVm = { uuid: string; name: string; host: string; memoryMiB: number; needMiB: number }

/** Running VMs of these hosts, with the memory that each takes there. */
export async function activeVms(sql: Sql, hosts: readonly string[]): Promise<ActiveVm[]> {
  return sql.query<ActiveVm>(
    `select v.uuid, v.name, w.host, w.max_memory_mib as "memoryMiB", inventory.need_mib(w.max_memory_mib) as "needMiB"
     from inventory.whereabouts w join inventory.vm v on v.uuid = w.vm
     where w.state = 'active' and w.power = 'running' and w.host = any ($1)
     order by v.uuid`,
    [hosts]
  )
}

export type PoolOfHost = { name: string; active: boolean }

export async function poolsOfHost(sql: Sql, host: string): Promise<PoolOfHost[]> {
  return sql.query<PoolOfHost>(`select name, active from inventory.pool where host = $1 order by name collate "C"`, [
    host
  ])
}

/** `moved` while it ran; `moved off`: its definition alone; `stopped`: shut down where it was. */
export type Taken = 'moved' | 'moved off' | 'stopped'

export type ClearedVm = { vm: string; how: Taken; task: number }

/** A VM that was taken from the host twice, is brought back as it was taken first. */
export async function recordCleared(
  sql: Sql,
  host: string,
  task: number,
  taken: readonly { vm: string; how: Taken }[]
): Promise<void> {
  if (taken.length === 0) return
  await sql.query(
    `insert into inventory.cleared (host, vm, task, how)
     select $1, t.vm, $2, t.how from jsonb_to_recordset($3::jsonb) as t (vm uuid, how text)
     where exists (select from inventory.host h where h.name = $1)
     on conflict (host, vm) do nothing`,
    [host, task, JSON.stringify(taken)]
  )
}

export async function clearedFrom(sql: Sql, host: string): Promise<ClearedVm[]> {
  return sql.query<ClearedVm>(
    `select c.vm, c.how, c.task from inventory.cleared c left join inventory.vm v on v.uuid = c.vm
     where c.host = $1 order by v.name collate "C", c.vm`,
    [host]
  )
}

export async function forgetCleared(sql: Sql, host: string, vms: readonly string[]): Promise<void> {
  await sql.query(`delete from inventory.cleared where host = $1 and vm = any ($2::uuid[])`, [host, vms])
}
