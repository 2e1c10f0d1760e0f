// The contract: moving a running domain to another host.

import { expect, test } from 'vitest'
import { DomainMigrateFlags, DomainRunningReason, DomainState, ErrorCode } from '../../../src/libvirt/constants.gen.ts'
import type { Bench } from '../contract.ts'
import { removeDomain, withDomain } from './scratch.ts'

export function migrationContract(bench: Bench): void {
  const peer = bench.capabilities.migration
  // What a target cannot do is no skipped test: there is nothing to hold.
  if (!peer) return

  test('a running domain migrates peer to peer: it runs there and is gone here', async () => {
    const other = await peer.connect()
    await withDomain(bench, async (dom) => {
      await bench.connection.call('DOMAIN_CREATE', { dom })
      const { LIVE, PEER2PEER, PERSIST_DEST, UNDEFINE_SOURCE } = DomainMigrateFlags
      await bench.connection.call('DOMAIN_MIGRATE_PERFORM3_PARAMS', {
        dom,
        dconnuri: peer.peerUri,
        params: [],
        cookie_in: new Uint8Array(0),
        flags: LIVE | PEER2PEER | PERSIST_DEST | UNDEFINE_SOURCE
      })
      try {
        const there = await other.call('DOMAIN_GET_STATE', { dom, flags: 0 })
        expect(there).toEqual({ state: DomainState.RUNNING, reason: DomainRunningReason.MIGRATED })
        expect(await other.call('DOMAIN_IS_PERSISTENT', { dom })).toEqual({ persistent: 1 })
        await expect(bench.connection.call('DOMAIN_GET_STATE', { dom, flags: 0 })).rejects.toMatchObject({
          code: ErrorCode.NO_DOMAIN
        })
      } finally {
        await removeDomain(other, dom)
      }
    })
    await other.close()
  })
}
