// A VM's last definition, with its secrets, kept so that it can be defined again when its host is gone. Encrypted by a key that
// the database never sees: whoever has only the database has no VNC password.
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { mkdir, open, readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Sql } from '../db/open.ts'
import { InventoryError } from './error.ts'

const CIPHER = 'aes-256-gcm'
const KEY_BYTES = 32
const NONCE_BYTES = 12
const TAG_BYTES = 16
/** First byte of what is kept: how the rest is to be read. */
const VERSION = 1

/**
 * The key in this file, made at first: 32 random bytes in hex, readable by its owner only.
 * @throws InventoryError `bad_input` when the file holds something else
 */
export async function loadDefinitionKey(path: string): Promise<Buffer> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  try {
    const file = await open(path, 'wx', 0o600)
    try {
      await file.writeFile(randomBytes(KEY_BYTES).toString('hex'))
      await file.sync()
    } finally {
      await file.close()
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
  const key = Buffer.from((await readFile(path, 'utf8')).trim(), 'hex')
  if (key.length !== KEY_BYTES)
    throw new InventoryError('bad_input', `${path} does not hold a key of ${KEY_BYTES} bytes in hex`)
  return key
}

/** Replaces what was kept of this VM before. */
export async function keepDefinition(
  sql: Sql,
  key: Buffer,
  kept: { uuid: string; host: string; xml: string }
): Promise<void> {
  await sql.query(
    `insert into inventory.definition as d (vm, name, host, sealed)
     values ($1, coalesce((select v.name from inventory.vm v where v.uuid = $1), $1::text), $2, $3)
     on conflict (vm) do update set
       name = excluded.name, host = excluded.host, sealed = excluded.sealed, kept_at = clock_timestamp()`,
    [kept.uuid, kept.host, seal(key, kept.uuid, kept.xml)]
  )
}

/**
 * The definition kept of a VM, and the host that it was on.
 * @throws InventoryError `sealed` when this key does not open it
 */
export async function readDefinition(
  sql: Sql,
  key: Buffer,
  uuid: string
): Promise<{ name: string; host: string; xml: string; keptAt: Date } | undefined> {
  const [row] = await sql.query<{ name: string; host: string; sealed: Buffer; keptAt: Date }>(
    `select name, host, sealed, kept_at as "keptAt" from inventory.definition where vm = $1 and sealed is not null`,
    [uuid]
  )
  if (!row) return undefined
  const { sealed, ...kept } = row
  return { ...kept, xml: unseal(key, uuid, sealed) }
}

/** What an edit is about to replace; it counts only once `noteEdited` says that the host has taken the edit. */
export async function keepBeforeEdit(
  sql: Sql,
  key: Buffer,
  edit: { uuid: string; host: string; xml: string }
): Promise<void> {
  await sql.query(
    `insert into inventory.definition as d (vm, name, host, pending_edit)
     values ($1, coalesce((select v.name from inventory.vm v where v.uuid = $1), $1::text), $2, $3)
     on conflict (vm) do update set pending_edit = excluded.pending_edit`,
    [edit.uuid, edit.host, seal(key, edit.uuid, edit.xml)]
  )
}

/** @param digest of what the edit made of the definition */
export async function noteEdited(sql: Sql, uuid: string, digest: string): Promise<void> {
  await sql.query(
    `update inventory.definition
     set before_edit = coalesce(pending_edit, before_edit), pending_edit = null, edited_digest = $2
     where vm = $1`,
    [uuid, digest]
  )
}

/**
 * What the last edit replaced, and the digest of what it made of it.
 * @throws InventoryError `sealed` when this key does not open it
 */
export async function readBeforeEdit(
  sql: Sql,
  key: Buffer,
  uuid: string
): Promise<{ xml: string; editedDigest: string | null } | undefined> {
  const [row] = await sql.query<{ before: Buffer; editedDigest: string | null }>(
    `select before_edit as before, edited_digest as "editedDigest"
     from inventory.definition
     where vm = $1 and before_edit is not null`,
    [uuid]
  )
  return row && { xml: unseal(key, uuid, row.before), editedDigest: row.editedDigest }
}

/** VMs that have their definition on this host and of which none is kept, or none of the last day. */
export async function unkeptVms(sql: Sql, host: string): Promise<string[]> {
  const rows = await sql.query<{ vm: string }>(
    `select v.uuid as vm from inventory.vm v
     join inventory.whereabouts w on w.vm = v.uuid and w.host = v.home and w.persistent
     left join inventory.definition d on d.vm = v.uuid
     where v.home = $1 and v.gone_at is null
       and (d.sealed is null or d.host <> v.home or d.kept_at < clock_timestamp() - interval '1 day')
     order by d.kept_at nulls first, v.uuid
     limit 10000`,
    [host]
  )
  return rows.map(({ vm }) => vm)
}

/** Bound to the VM: a row put in another's place does not open. */
export function seal(key: Buffer, uuid: string, xml: string): Buffer {
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES }).setAAD(Buffer.from(uuid))
  const body = Buffer.concat([cipher.update(xml, 'utf8'), cipher.final()])
  return Buffer.concat([Buffer.of(VERSION), nonce, cipher.getAuthTag(), body])
}

/** @throws InventoryError `sealed` when this key does not open it */
export function unseal(key: Buffer, uuid: string, sealed: Buffer): string {
  const nonce = sealed.subarray(1, 1 + NONCE_BYTES)
  const tag = sealed.subarray(1 + NONCE_BYTES, 1 + NONCE_BYTES + TAG_BYTES)
  try {
    if (sealed[0] !== VERSION) throw new Error(`version ${sealed[0]}`)
    const decipher = createDecipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES })
    decipher.setAAD(Buffer.from(uuid)).setAuthTag(tag)
    return decipher.update(sealed.subarray(1 + NONCE_BYTES + TAG_BYTES), undefined, 'utf8') + decipher.final('utf8')
  } catch (error) {
    throw new InventoryError('sealed', `the kept definition of VM ${uuid} does not open with this key`, {
      cause: error
    })
  }
}
