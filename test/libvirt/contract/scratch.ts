// Domains and pools that a test makes, removed after it whatever happened.

import { randomUUID } from 'node:crypto'
import type { OpenConnection } from '../../../src/libvirt/connect.ts'
import { DomainUndefineFlags, ErrorCode } from '../../../src/libvirt/constants.gen.ts'
import { LibvirtError } from '../../../src/libvirt/errors.ts'
import type { Domain, StoragePool } from '../../../src/libvirt/wire.gen.ts'
import type { Bench } from '../contract.ts'

export const freshName = (): string => `contract-${randomUUID().slice(0, 8)}`

/** Runs `use` with a defined domain that is shut off. */
export async function withDomain(bench: Bench, use: (dom: Domain) => Promise<void>): Promise<void> {
  const { connection } = bench
  const xml = bench.domainXml(freshName(), randomUUID())
  const { dom } = await connection.call('DOMAIN_DEFINE_XML_FLAGS', { xml, flags: 0 })
  try {
    await use(dom)
  } finally {
    await removeDomain(connection, dom)
  }
}

export async function removeDomain(connection: OpenConnection, dom: Domain): Promise<void> {
  const { MANAGED_SAVE, SNAPSHOTS_METADATA } = DomainUndefineFlags
  await unless(notThere, connection.call('DOMAIN_DESTROY_FLAGS', { dom, flags: 0 }))
  await unless(notThere, connection.call('DOMAIN_UNDEFINE_FLAGS', { dom, flags: MANAGED_SAVE | SNAPSHOTS_METADATA }))
}

/** Runs `use` with an active pool of type dir. */
export async function withPool(bench: Bench, use: (pool: StoragePool, path: string) => Promise<void>): Promise<void> {
  const { connection } = bench
  const name = freshName()
  const path = `${bench.folder}/${name}`
  const xml = `<pool type='dir'><name>${name}</name><target><path>${path}</path></target></pool>`
  const { pool } = await connection.call('STORAGE_POOL_DEFINE_XML', { xml, flags: 0 })
  try {
    await connection.call('STORAGE_POOL_BUILD', { pool, flags: 0 })
    await connection.call('STORAGE_POOL_CREATE', { pool, flags: 0 })
    await use(pool, path)
  } finally {
    await removePool(connection, pool)
  }
}

async function removePool(connection: OpenConnection, pool: StoragePool): Promise<void> {
  const listed = await unless(
    notThere,
    connection.call('STORAGE_POOL_LIST_ALL_VOLUMES', { pool, need_results: 1, flags: 0 })
  )
  for (const vol of listed?.vols ?? []) await connection.call('STORAGE_VOL_DELETE', { vol, flags: 0 })
  await unless(notThere, connection.call('STORAGE_POOL_DESTROY', { pool }))
  await unless(notThere, connection.call('STORAGE_POOL_DELETE', { pool, flags: 0 }))
  await unless(notThere, connection.call('STORAGE_POOL_UNDEFINE', { pool }))
}

const notThere: readonly number[] = [
  ErrorCode.NO_DOMAIN,
  ErrorCode.NO_STORAGE_POOL,
  ErrorCode.OPERATION_INVALID,
  ErrorCode.INTERNAL_ERROR
]

/** The call's reply; undefined when it was refused with one of `codes`. */
async function unless<T>(codes: readonly number[], call: Promise<T>): Promise<T | undefined> {
  try {
    return await call
  } catch (error) {
    if (error instanceof LibvirtError && codes.includes(error.code)) return undefined
    throw error
  }
}
