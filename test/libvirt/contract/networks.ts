// The contract: a virtual network's life.

import { expect, test } from 'vitest'
import { ErrorCode } from '../../../src/libvirt/constants.gen.ts'
import type { Bench } from '../contract.ts'
import { freshName } from './scratch.ts'

export function networkContract(bench: Bench): void {
  // What a target cannot do is no skipped test: there is nothing to hold.
  if (!bench.capabilities.networks) return
  const call: Bench['connection']['call'] = (...args) => bench.connection.call(...args)

  test('a network is defined, started, stopped and undefined', async () => {
    const name = freshName()
    const xml = `<network><name>${name}</name><bridge name='vc${name.slice(-8)}'/><ip address='10.177.1.1' netmask='255.255.255.0'/></network>`
    const { net } = await call('NETWORK_DEFINE_XML', { xml })
    try {
      expect(await call('NETWORK_LOOKUP_BY_NAME', { name })).toEqual({ net })
      expect(await call('NETWORK_IS_ACTIVE', { net })).toEqual({ active: 0 })
      await call('NETWORK_CREATE', { net })
      expect(await call('NETWORK_IS_ACTIVE', { net })).toEqual({ active: 1 })
      const { nets } = await call('CONNECT_LIST_ALL_NETWORKS', { need_results: 1, flags: 0 })
      expect(nets).toContainEqual(net)
      await call('NETWORK_DESTROY', { net })
    } finally {
      await call('NETWORK_UNDEFINE', { net })
    }
    await expect(call('NETWORK_LOOKUP_BY_NAME', { name })).rejects.toMatchObject({ code: ErrorCode.NO_NETWORK })
  })
}
