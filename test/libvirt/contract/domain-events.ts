// The contract: which events a domain's life causes, and in which order.

import { expect, test } from 'vitest'
import { DomainEventType } from '../../../src/libvirt/constants.gen.ts'
import type { Domain } from '../../../src/libvirt/wire.gen.ts'
import type { Bench } from '../contract.ts'
import { withDomain } from './scratch.ts'

type Kind = keyof typeof DomainEventType
const kinds = new Map(Object.entries(DomainEventType).map(([name, value]) => [value as number, name as Kind]))

export function domainEventContract(bench: Bench): void {
  const { qemu } = bench.capabilities
  // Per step what a client sees of one domain, in this order. QEMU's are twofold: the guest's processors, then the domain.
  const expected: Record<string, Kind[]> = {
    start: qemu ? ['RESUMED', 'STARTED'] : ['STARTED'],
    suspend: ['SUSPENDED'],
    resume: ['RESUMED'],
    destroy: qemu ? ['SHUTDOWN', 'STOPPED'] : ['STOPPED'],
    undefine: ['UNDEFINED']
  }

  test('the events of a domain’s life come in order, on another connection than the one that causes them', async () => {
    const watcher = await bench.target.connect()
    const seen: { uuid: string; kind: Kind | undefined }[] = []
    let wake = (): void => {}
    await watcher.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', ({ dom, event }) => {
      seen.push({ uuid: dom.uuid, kind: kinds.get(event) })
      wake()
    })
    const of = (dom: Domain): (Kind | undefined)[] =>
      seen.filter(({ uuid }) => uuid === dom.uuid).map(({ kind }) => kind)
    const settled = async (dom: Domain, count: number): Promise<void> => {
      while (of(dom).length < count) await new Promise<void>((resolve) => (wake = resolve))
    }
    await withDomain(bench, async (dom) => {
      const { connection } = bench
      const wanted: Kind[] = ['DEFINED']
      const step = async (events: Kind[] | undefined, act: () => Promise<unknown>): Promise<void> => {
        await act()
        wanted.push(...(events ?? []))
        await settled(dom, wanted.length)
        expect(of(dom)).toEqual(wanted)
      }
      await step(expected['start'], () => connection.call('DOMAIN_CREATE', { dom }))
      await step(expected['suspend'], () => connection.call('DOMAIN_SUSPEND', { dom }))
      await step(expected['resume'], () => connection.call('DOMAIN_RESUME', { dom }))
      await step(expected['destroy'], () => connection.call('DOMAIN_DESTROY_FLAGS', { dom, flags: 0 }))
      await step(expected['undefine'], () => connection.call('DOMAIN_UNDEFINE_FLAGS', { dom, flags: 0 }))
    })
    await watcher.close()
  })

  test('whoever has left hears no more', async () => {
    const watcher = await bench.target.connect()
    let heard = 0
    const off = await watcher.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', () => heard++)
    await off()
    await withDomain(bench, async () => {})
    await watcher.call('CONNECT_GET_HOSTNAME', {})
    expect(heard).toBe(0)
    await watcher.close()
  })
}
