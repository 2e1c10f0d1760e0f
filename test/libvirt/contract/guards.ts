// The contract: what a host of QEMU's kind guards against, and what it does not, where our own checks stand in for it.
import { randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { DomainUndefineFlags, DomainXMLFlags, ErrorCode } from '../../../src/libvirt/constants.gen.ts'
import type { Domain } from '../../../src/libvirt/wire.gen.ts'
import type { Bench } from '../contract.ts'
import { freshName, removeDomain, withDomain, withPool } from './scratch.ts'

export function guardContract(bench: Bench): void {
  const call: Bench['connection']['call'] = (...args) => bench.connection.call(...args)
  const invalid = { code: ErrorCode.OPERATION_INVALID }

  /** A domain with this among its devices. */
  async function withDevices(devices: string, use: (dom: Domain) => Promise<void>): Promise<void> {
    const xml = bench.domainXml(freshName(), randomUUID()).replace('</devices>', `${devices}</devices>`)
    const { dom } = await call('DOMAIN_DEFINE_XML_FLAGS', { xml, flags: 0 })
    try {
      await use(dom)
    } finally {
      await removeDomain(bench.connection, dom)
    }
  }

  // What a target cannot do is no skipped test: there is nothing to hold.
  if (bench.target.capabilities?.qemu !== true) return
  describe('as QEMU', () => {
    test('a paused guest cannot be asked to shut down: it must go on first', () =>
      withDomain(bench, async (dom) => {
        await call('DOMAIN_CREATE', { dom })
        await call('DOMAIN_SUSPEND', { dom })
        await expect(call('DOMAIN_SHUTDOWN_FLAGS', { dom, flags: 0 })).rejects.toMatchObject(invalid)
        await call('DOMAIN_RESUME', { dom })
        await call('DOMAIN_SHUTDOWN_FLAGS', { dom, flags: 0 })
      }))

    test('a definition with a saved image is not removed unless that is asked for too', () =>
      withDomain(bench, async (dom) => {
        await call('DOMAIN_CREATE', { dom })
        await call('DOMAIN_MANAGED_SAVE', { dom, flags: 0 })
        expect(await call('DOMAIN_HAS_MANAGED_SAVE_IMAGE', { dom, flags: 0 })).toEqual({ result: 1 })
        await expect(call('DOMAIN_UNDEFINE_FLAGS', { dom, flags: 0 })).rejects.toMatchObject(invalid)
        await call('DOMAIN_UNDEFINE_FLAGS', { dom, flags: DomainUndefineFlags.MANAGED_SAVE })
        await expect(call('DOMAIN_LOOKUP_BY_UUID', { uuid: dom.uuid })).rejects.toMatchObject({
          code: ErrorCode.NO_DOMAIN
        })
      }))

    test('a definition that was read without its secrets and written back has lost them', () =>
      withDevices(`<graphics type='vnc' port='-1' autoport='yes' passwd='secret'/>`, async (dom) => {
        const read = async (flags: number) => (await call('DOMAIN_GET_XML_DESC', { dom, flags })).xml
        expect(await read(DomainXMLFlags.SECURE)).toContain("passwd='secret'")
        const plain = await read(0)
        expect(plain).not.toContain('secret')
        await call('DOMAIN_DEFINE_XML_FLAGS', { xml: await read(DomainXMLFlags.SECURE), flags: 0 })
        expect(await read(DomainXMLFlags.SECURE)).toContain("passwd='secret'")
        await call('DOMAIN_DEFINE_XML_FLAGS', { xml: plain, flags: 0 })
        expect(await read(DomainXMLFlags.SECURE)).not.toContain('passwd')
      }))

    test('a pool is stopped, and a volume deleted, under the guest that runs on it: nobody is asked', () =>
      withPool(bench, async (pool, path) => {
        const xml =
          '<volume><name>a.raw</name><capacity>1048576</capacity><target><format type="raw"/></target></volume>'
        const { vol } = await call('STORAGE_VOL_CREATE_XML', { pool, xml, flags: 0 })
        const disk = `<disk type='file'><driver name='qemu' type='raw'/><source file='${path}/a.raw'/><target dev='vda' bus='virtio'/></disk>`
        await withDevices(disk, async (dom) => {
          await call('DOMAIN_CREATE', { dom })
          await call('STORAGE_POOL_DESTROY', { pool })
          expect(await call('STORAGE_POOL_IS_ACTIVE', { pool })).toEqual({ active: 0 })
          await call('STORAGE_POOL_CREATE', { pool, flags: 0 })
          await call('STORAGE_VOL_DELETE', { vol, flags: 0 })
          expect(await call('DOMAIN_IS_ACTIVE', { dom })).toEqual({ active: 1 })
        })
      }))
  })
}
