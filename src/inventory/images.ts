// Images: volumes that disks of new VMs are made from, and what VMs made from them are like.
import type { Sql } from '../db/open.ts'
import { resource } from '../model/resource.ts'
import type { ImageFacts } from './facts.ts'

const columns = `i.name, i.store, i.volume, i.description, i.memory_mib as "memoryMiB", i.vcpus, i.firmware, i.bus,
  i.cloud_init as "cloudInit", i.added_at as "addedAt", i.added_by as "addedBy"`

/** Adds an image, or changes what VMs of the one with this name are like. */
export async function putImage(sql: Sql, image: Omit<ImageFacts, 'addedAt'>): Promise<void> {
  const { name, store, volume, description, memoryMiB, vcpus, firmware, bus, cloudInit, addedBy } = image
  await sql.query(
    `insert into inventory.image (name, store, volume, description, memory_mib, vcpus, firmware, bus, cloud_init, added_by)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
     on conflict (name) do update set
       store = excluded.store, volume = excluded.volume, description = excluded.description,
       memory_mib = excluded.memory_mib, vcpus = excluded.vcpus, firmware = excluded.firmware, bus = excluded.bus,
       cloud_init = excluded.cloud_init`,
    [name, store, volume, description, memoryMiB, vcpus, firmware, bus, cloudInit, addedBy]
  )
}

/** The volume stays. */
export async function dropImage(sql: Sql, name: string): Promise<void> {
  await sql.query(`delete from inventory.image where name = $1`, [name])
}

export async function loadImages(sql: Sql, parts: string[][]): Promise<Map<string, ImageFacts>> {
  const rows = await sql.query<Omit<ImageFacts, 'addedAt'> & { addedAt: Date }>(
    `select ${columns} from inventory.image i where i.name = any ($1::text[])`,
    [parts.map((part) => part[0])]
  )
  return new Map(rows.map((row) => [resource.image(row.name), { ...row, addedAt: row.addedAt.toISOString() }]))
}
