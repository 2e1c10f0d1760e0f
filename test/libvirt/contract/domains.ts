// The contract: a domain's life from definition to undefinition, and what is refused on the way.

import { randomUUID } from 'node:crypto'
import { expect, test } from 'vitest'
import {
  DomainMetadataType,
  DomainModificationImpact,
  DomainPausedReason,
  DomainShutoffReason,
  DomainState,
  DomainUndefineFlags,
  ErrorCode,
  ListAllDomainsFlags
} from '../../../src/libvirt/constants.gen.ts'
import { fromTypedParams } from '../../../src/libvirt/typed-params.ts'
import type { Domain } from '../../../src/libvirt/wire.gen.ts'
import type { Bench } from '../contract.ts'
import { freshName, removeDomain, withDomain } from './scratch.ts'

export function domainContract(bench: Bench): void {
  const call: Bench['connection']['call'] = (...args) => bench.connection.call(...args)
  const state = (dom: Domain): Promise<{ state: number; reason: number }> => call('DOMAIN_GET_STATE', { dom, flags: 0 })
  const names = async (flags: number): Promise<string[]> =>
    (await call('CONNECT_LIST_ALL_DOMAINS', { need_results: 1, flags })).domains.map((dom) => dom.name)

  test('a defined domain is listed as inactive and found by name and by UUID', () =>
    withDomain(bench, async (dom) => {
      expect(dom.id).toBe(-1)
      expect(await names(ListAllDomainsFlags.INACTIVE)).toContain(dom.name)
      expect(await names(ListAllDomainsFlags.ACTIVE)).not.toContain(dom.name)
      expect(await call('DOMAIN_LOOKUP_BY_NAME', { name: dom.name })).toEqual({ dom })
      expect(await call('DOMAIN_LOOKUP_BY_UUID', { uuid: dom.uuid })).toEqual({ dom })
      expect(await state(dom)).toMatchObject({ state: DomainState.SHUTOFF })
      expect(await call('DOMAIN_IS_ACTIVE', { dom })).toEqual({ active: 0 })
      expect(await call('DOMAIN_IS_PERSISTENT', { dom })).toEqual({ persistent: 1 })
    }))

  test('what does not exist is refused as not found', async () => {
    const uuid = randomUUID()
    const noDomain = { code: ErrorCode.NO_DOMAIN, codeName: 'NO_DOMAIN' }
    await expect(call('DOMAIN_LOOKUP_BY_NAME', { name: freshName() })).rejects.toMatchObject(noDomain)
    await expect(call('DOMAIN_LOOKUP_BY_UUID', { uuid })).rejects.toMatchObject(noDomain)
    await expect(call('DOMAIN_CREATE', { dom: { name: 'contract-none', uuid, id: -1 } })).rejects.toMatchObject(
      noDomain
    )
  })

  test('a domain may be defined again, but neither its name nor its UUID taken by another', () =>
    withDomain(bench, async (dom) => {
      const define = (name: string, uuid: string): Promise<{ dom: Domain }> =>
        call('DOMAIN_DEFINE_XML_FLAGS', { xml: bench.domainXml(name, uuid), flags: 0 })
      expect(await define(dom.name, dom.uuid)).toEqual({ dom })
      const taken = { code: ErrorCode.OPERATION_FAILED }
      await expect(define(dom.name, randomUUID())).rejects.toMatchObject(taken)
      await expect(define(freshName(), dom.uuid)).rejects.toMatchObject(taken)
    }))

  test('what is no domain XML is refused as such', async () => {
    const define = (xml: string): Promise<unknown> => call('DOMAIN_DEFINE_XML_FLAGS', { xml, flags: 0 })
    await expect(define('<domain')).rejects.toMatchObject({ code: ErrorCode.XML_DETAIL })
    await expect(define('<network/>')).rejects.toMatchObject({ code: ErrorCode.XML_ERROR })
  })

  test('a domain is started, paused, resumed and destroyed, and its state and reason say so', () =>
    withDomain(bench, async (dom) => {
      await call('DOMAIN_CREATE', { dom })
      const started = await call('DOMAIN_LOOKUP_BY_UUID', { uuid: dom.uuid })
      expect(started.dom.id).toBeGreaterThan(0)
      expect(await state(dom)).toMatchObject({ state: DomainState.RUNNING })
      expect(await names(ListAllDomainsFlags.ACTIVE)).toContain(dom.name)
      await call('DOMAIN_SUSPEND', { dom })
      expect(await state(dom)).toEqual({ state: DomainState.PAUSED, reason: DomainPausedReason.USER })
      await call('DOMAIN_RESUME', { dom })
      expect(await state(dom)).toMatchObject({ state: DomainState.RUNNING })
      await call('DOMAIN_DESTROY_FLAGS', { dom, flags: 0 })
      expect(await state(dom)).toEqual({ state: DomainState.SHUTOFF, reason: DomainShutoffReason.DESTROYED })
    }))

  test('what does not fit the state is refused', () =>
    withDomain(bench, async (dom) => {
      const invalid = { code: ErrorCode.OPERATION_INVALID }
      await expect(call('DOMAIN_DESTROY_FLAGS', { dom, flags: 0 })).rejects.toMatchObject(invalid)
      await call('DOMAIN_CREATE', { dom })
      // libvirt's test driver calls these internal errors.
      const refused = bench.capabilities.qemu ? invalid : { name: 'LibvirtError' }
      await expect(call('DOMAIN_CREATE', { dom })).rejects.toMatchObject(refused)
      await expect(call('DOMAIN_RESUME', { dom })).rejects.toMatchObject(refused)
    }))

  test('undefining a running domain leaves it running and transient; destroyed, it is gone', () =>
    withDomain(bench, async (dom) => {
      await call('DOMAIN_CREATE', { dom })
      await call('DOMAIN_UNDEFINE_FLAGS', { dom, flags: 0 })
      expect(await call('DOMAIN_IS_PERSISTENT', { dom })).toEqual({ persistent: 0 })
      expect(await state(dom)).toMatchObject({ state: DomainState.RUNNING })
      await call('DOMAIN_DESTROY_FLAGS', { dom, flags: 0 })
      await expect(state(dom)).rejects.toMatchObject({ code: ErrorCode.NO_DOMAIN })
    }))

  test('an undefined domain is gone', async () => {
    const { dom } = await call('DOMAIN_DEFINE_XML_FLAGS', { xml: bench.domainXml(freshName(), randomUUID()), flags: 0 })
    await call('DOMAIN_UNDEFINE_FLAGS', { dom, flags: DomainUndefineFlags.SNAPSHOTS_METADATA })
    await expect(call('DOMAIN_LOOKUP_BY_UUID', { uuid: dom.uuid })).rejects.toMatchObject({ code: ErrorCode.NO_DOMAIN })
  })

  test('a transient domain lives until it is destroyed', async () => {
    const { dom } = await call('DOMAIN_CREATE_XML', { xml_desc: bench.domainXml(freshName(), randomUUID()), flags: 0 })
    try {
      expect(await call('DOMAIN_IS_PERSISTENT', { dom })).toEqual({ persistent: 0 })
      await call('DOMAIN_DESTROY', { dom })
      await expect(state(dom)).rejects.toMatchObject({ code: ErrorCode.NO_DOMAIN })
    } finally {
      await removeDomain(bench.connection, dom)
    }
  })

  test('metadata of ours is kept with the domain, found by its namespace, and part of the XML', () =>
    withDomain(bench, async (dom) => {
      const uri = 'urn:example:contract'
      const flags = DomainModificationImpact.CONFIG
      const type = DomainMetadataType.ELEMENT
      await call('DOMAIN_SET_METADATA', { dom, type, metadata: "<mark task='7'/>", key: 'c', uri, flags })
      expect((await call('DOMAIN_GET_METADATA', { dom, type, uri, flags })).metadata).toMatch(/<mark task=["']7["']\/>/)
      expect((await call('DOMAIN_GET_XML_DESC', { dom, flags: 0 })).xml).toContain(uri)
      await expect(call('DOMAIN_GET_METADATA', { dom, type, uri: 'urn:example:none', flags })).rejects.toMatchObject({
        code: ErrorCode.NO_DOMAIN_METADATA
      })
      await call('DOMAIN_SET_METADATA', { dom, type, metadata: null, key: 'c', uri, flags })
      await expect(call('DOMAIN_GET_METADATA', { dom, type, uri, flags })).rejects.toMatchObject({
        code: ErrorCode.NO_DOMAIN_METADATA
      })
    }))

  test('autostart is set and told', () =>
    withDomain(bench, async (dom) => {
      expect(await call('DOMAIN_GET_AUTOSTART', { dom })).toEqual({ autostart: 0 })
      await call('DOMAIN_SET_AUTOSTART', { dom, autostart: 1 })
      expect(await call('DOMAIN_GET_AUTOSTART', { dom })).toEqual({ autostart: 1 })
    }))

  test('the stats of all domains come in one call, with typed parameters', () =>
    withDomain(bench, async (dom) => {
      await call('DOMAIN_CREATE', { dom })
      const { retStats } = await call('CONNECT_GET_ALL_DOMAIN_STATS', { doms: [], stats: 0, flags: 0 })
      const own = retStats.find((stats) => stats.dom.uuid === dom.uuid)
      expect(fromTypedParams(own?.params ?? [])).toMatchObject({ 'state.state': DomainState.RUNNING })
      const info = await call('DOMAIN_GET_INFO', { dom })
      expect(info).toMatchObject({ state: DomainState.RUNNING, maxMem: 32_768n, nrVirtCpu: 1 })
    }))
}
