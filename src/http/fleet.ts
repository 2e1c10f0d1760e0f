// GET /vms, /hosts, /pools, /stores, /volumes: what hosts said last. Never changes anything; asks a host only for a definition.
import { createHash } from 'node:crypto'
import { Type, type TSchema } from 'typebox'
import { HostView, ImageView, NetworkView, PoolView, StoreView, VmView, VmXmlView, VolumeView } from '../api/fleet.ts'
import type { Database } from '../db/open.ts'
import { loadFacts } from '../inventory/load.ts'
import { listHosts, listImages, listNetworks, listPools, listStores, listVms, listVolumes } from '../inventory/read.ts'
import { closeNames, findVm } from '../inventory/resolve.ts'
import { quote } from '../model/name.ts'
import { resource } from '../model/resource.ts'
import { RequestError } from '../actions/request-error.ts'
import { answers, type Api } from './app.ts'
import { limitOf, pageQuery } from './paging.ts'

const Name = (description: string) => Type.Optional(Type.String({ minLength: 1, maxLength: 255, description }))
const Selector = Type.Optional(
  Type.String({
    minLength: 1,
    maxLength: 1000,
    description: 'By labels, all terms must hold: `role=web,tier!=test,zone in (a,b)`, also `key` and `!key`'
  })
)
const pageOf = (item: TSchema) =>
  answers(
    'A page; `next` is the cursor of the following one',
    Type.Object({ items: Type.Array(item), next: Type.Union([Type.String(), Type.Null()]) })
  )
const query = <T extends Record<string, TSchema>>(filters: T) =>
  Type.Object({ ...filters, ...pageQuery }, { additionalProperties: false })

/** A VM's definition as its host has it now, without secrets. @throws RequestError when it cannot be asked */
export type ReadVmXml = (vm: { uuid: string; host: string }) => Promise<string>

export function fleetRoutes(app: Api, database: Database, readVmXml?: ReadVmXml): void {
  const vms = query({
    host: Name('At home or active there'),
    power: Name('E.g. running'),
    labels: Selector,
    name: Name('Exact, or with `*` for anything')
  })
  app.get(
    '/vms',
    { schema: { summary: 'VMs', operationId: 'listVms', querystring: vms, response: { 200: pageOf(VmView) } } },
    ({ query: { limit, cursor, ...filter } }) => listVms(database, { ...filter, after: cursor, limit: limitOf(limit) })
  )
  const vm = Type.Object({ vm: Type.String({ minLength: 1, maxLength: 255, description: 'NAME, NAME@HOST or UUID' }) })
  app.get(
    '/vms/:vm',
    { schema: { summary: 'A VM', operationId: 'getVm', params: vm, response: { 200: answers('The VM', VmView) } } },
    ({ params }) => findVm(database, params.vm)
  )

  if (readVmXml) {
    app.get(
      '/vms/:vm/xml',
      {
        schema: {
          summary: "A VM's definition as its host has it now, without secrets",
          operationId: 'getVmXml',
          params: vm,
          response: { 200: answers('The definition', VmXmlView) }
        }
      },
      async ({ params }) => {
        const { uuid, home } = await findVm(database, params.vm)
        const xml = await readVmXml({ uuid, host: home })
        return { uuid, host: home, xml, digest: createHash('sha256').update(xml).digest('hex') }
      }
    )
  }

  const named = query({ name: Name('Exact, or with `*` for anything') })
  const labelled = query({ name: Name('Exact, or with `*` for anything'), labels: Selector })
  app.get(
    '/hosts',
    {
      schema: { summary: 'Hosts', operationId: 'listHosts', querystring: labelled, response: { 200: pageOf(HostView) } }
    },
    ({ query: { limit, cursor, ...filter } }) =>
      listHosts(database, { ...filter, after: cursor, limit: limitOf(limit) })
  )
  const host = Type.Object({ host: Type.String({ minLength: 1, maxLength: 255 }) })
  app.get(
    '/hosts/:host',
    {
      schema: {
        summary: 'A host',
        operationId: 'getHost',
        params: host,
        response: { 200: answers('The host', HostView) }
      }
    },
    async ({ params }) => {
      const subject = resource.host(params.host)
      const found = (await loadFacts(database, [subject])).get(subject)
      if (found) return found
      const close = await closeNames(database, 'host', params.host)
      throw new RequestError('not_found', `there is no host ${quote(params.host)}`, {
        pointer: '/host',
        next: 'see `taskomatic host list`',
        status: 'not_found',
        candidates: close
      })
    }
  )

  app.get(
    '/stores',
    {
      schema: { summary: 'Stores', operationId: 'listStores', querystring: named, response: { 200: pageOf(StoreView) } }
    },
    ({ query: { limit, cursor, name } }) => listStores(database, { name, after: cursor, limit: limitOf(limit) })
  )
  const pools = query({ host: Name('Only on this host'), store: Name('Only handles on this store') })
  app.get(
    '/pools',
    { schema: { summary: 'Pools', operationId: 'listPools', querystring: pools, response: { 200: pageOf(PoolView) } } },
    ({ query: { limit, cursor, ...filter } }) =>
      listPools(database, { ...filter, after: cursor, limit: limitOf(limit) })
  )
  const networks = query({ host: Name('Only on this host') })
  app.get(
    '/networks',
    {
      schema: {
        summary: 'Networks',
        operationId: 'listNetworks',
        querystring: networks,
        response: { 200: pageOf(NetworkView) }
      }
    },
    ({ query: { limit, cursor, host: on } }) =>
      listNetworks(database, { host: on, after: cursor, limit: limitOf(limit) })
  )
  const volumes = query({ store: Name('Only in this store'), name: Name('Exact, or with `*` for anything') })
  app.get(
    '/volumes',
    {
      schema: {
        summary: 'Volumes',
        operationId: 'listVolumes',
        querystring: volumes,
        response: { 200: pageOf(VolumeView) }
      }
    },
    ({ query: { limit, cursor, ...filter } }) =>
      listVolumes(database, { ...filter, after: cursor, limit: limitOf(limit) })
  )

  app.get(
    '/images',
    {
      schema: { summary: 'Images', operationId: 'listImages', querystring: named, response: { 200: pageOf(ImageView) } }
    },
    ({ query: { limit, cursor, name } }) => listImages(database, { name, after: cursor, limit: limitOf(limit) })
  )
  const image = Type.Object({ image: Type.String({ minLength: 1, maxLength: 255 }) })
  app.get(
    '/images/:image',
    {
      schema: {
        summary: 'An image',
        operationId: 'getImage',
        params: image,
        response: { 200: answers('The image', ImageView) }
      }
    },
    async ({ params }) => {
      const subject = resource.image(params.image)
      const found = (await loadFacts(database, [subject])).get(subject)
      if (found) return found
      throw new RequestError('not_found', `there is no image ${quote(params.image)}`, {
        pointer: '/image',
        next: 'see `taskomatic image list`',
        status: 'not_found'
      })
    }
  )
}
