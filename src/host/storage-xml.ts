// Pools and volumes as XML, both ways.
import type { Element } from '@xmldom/xmldom'
import type { ObservedPool, ObservedVolume } from '../model/storage.ts'
import type { NewVolumeSpec } from './host.ts'
import { attributeOf, attributes, bytesOf, childOf, childrenOf, escapeXml, parseXml, textOf } from './xml.ts'

export type PoolFromXml = Pick<ObservedPool, 'name' | 'uuid' | 'type' | 'target' | 'source'>

export function readPoolXml(xml: string): PoolFromXml {
  const pool = parseXml(xml, 'pool')
  const type = attributeOf(pool, 'type') ?? ''
  return {
    name: textOf(pool, 'name') ?? '',
    uuid: textOf(pool, 'uuid') ?? '',
    type,
    target: textOf(pool, 'target', 'path'),
    source: remoteTypes.has(type) ? remoteSource(type, childOf(pool, 'source')) : null
  }
}

/** Types whose source is the same place from every host. A device path is only its own host's. */
const remoteTypes = new Set(['netfs', 'gluster', 'iscsi', 'iscsi-direct', 'rbd', 'sheepdog'])

// The same text for the same source however its elements are ordered. Credentials do not make another store.
function remoteSource(type: string, source: Element | undefined): string | null {
  const hosts = childrenOf(source, 'host')
    .map((host) => {
      const port = attributeOf(host, 'port')
      return `${(attributeOf(host, 'name') ?? '').toLowerCase()}${port ? `:${port}` : ''}`
    })
    .toSorted()
  const parts = [
    hosts.join(','),
    attributeOf(childOf(source, 'dir'), 'path')?.replace(/(?<=.)\/+$/, ''),
    attributeOf(childOf(source, 'device'), 'path'),
    textOf(source, 'name'),
    attributeOf(childOf(source, 'initiator', 'iqn'), 'name')
  ]
  const place = parts.map((part) => part ?? '')
  return place.every((part) => part === '') ? null : `${type}://${place.join('|').replace(/\|+$/, '')}`
}

export function readVolumeXml(xml: string): ObservedVolume {
  const volume = parseXml(xml, 'volume')
  return {
    name: textOf(volume, 'name') ?? '',
    path: textOf(volume, 'target', 'path') ?? textOf(volume, 'key') ?? '',
    format: attributeOf(childOf(volume, 'target', 'format'), 'type'),
    capacityBytes: bytesOf(childOf(volume, 'capacity'), 'bytes'),
    allocationBytes: bytesOf(childOf(volume, 'allocation'), 'bytes'),
    backing: textOf(volume, 'backingStore', 'path')
  }
}

/**
 * Without an allocation of nothing a raw file would be written full at once; what is copied is as full as its source. `whole`: in a
 * volume group all is taken at once, since what is not would be made a thin snapshot.
 */
export const volumeXml = (volume: NewVolumeSpec, whole = false): string =>
  `<volume><name>${escapeXml(volume.name)}</name>` +
  `<capacity unit="bytes">${volume.capacityBytes}</capacity>${whole ? '' : '<allocation unit="bytes">0</allocation>'}` +
  `<target><format${attributes({ type: volume.format })}/></target>${backingXml(volume.backing)}</volume>`

const backingXml = (below: NewVolumeSpec['backing']): string =>
  below
    ? `<backingStore><path>${escapeXml(below.path)}</path><format${attributes({ type: below.format })}/></backingStore>`
    : ''
