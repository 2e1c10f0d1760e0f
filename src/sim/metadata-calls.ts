// A domain's title, description and metadata elements.

import { DomainMetadataType, DomainModificationImpact } from '../libvirt/constants.gen.ts'
import type { Handlers } from './call.ts'
import type { SimDomain } from './domain.ts'
import { asJob } from './domain-rules.ts'
import { type DomainDef, editDefinition } from './domain-xml.ts'
import type { SimHost } from './host.ts'
import { notValid, refuse } from './refusal.ts'
import { elements, find, node, parseXml, printXml, putChild, removeChildren, textAt, type XmlNode } from './xml.ts'

type Change = { type: number; metadata: string | null; key: string | null; uri: string | null }

function changed(def: DomainDef, { type, metadata, key, uri }: Change): DomainDef {
  return editDefinition(def, (tree) => {
    if (type !== DomainMetadataType.ELEMENT) {
      const name = type === DomainMetadataType.TITLE ? 'title' : 'description'
      if (name === 'title' && metadata?.includes('\n'))
        throw refuse('INVALID_ARG', 'DOMAIN', "metadata title can't contain newlines")
      if (metadata) putChild(tree, node(name, {}, [metadata]))
      else removeChildren(tree, name)
      return
    }
    const holder = find(tree, 'metadata') ?? node('metadata')
    holder.children = elements(holder).filter((element) => namespaceOf(element) !== uri)
    if (metadata !== null) holder.children.push(withNamespace(parseXml(metadata), key ?? '', uri ?? ''))
    if (holder.children.length > 0) {
      if (!find(tree, 'metadata')) tree.children.splice(afterHead(tree), 0, holder)
    } else removeChildren(tree, 'metadata')
  })
}

// libvirt prints metadata after name, UUID, title and description.
function afterHead(tree: XmlNode): number {
  const head = new Set(['name', 'uuid', 'genid', 'title', 'description'])
  return tree.children.filter((child) => typeof child !== 'string' && head.has(child.name)).length
}

function namespaceOf(element: XmlNode): string | undefined {
  const [prefix, local] = element.name.split(':')
  return element.attrs[local === undefined ? 'xmlns' : `xmlns:${prefix}`]
}

function withNamespace(element: XmlNode, key: string, uri: string): XmlNode {
  const local = element.name.split(':').at(-1) ?? element.name
  return { ...element, name: `${key}:${local}`, attrs: { [`xmlns:${key}`]: uri, ...element.attrs } }
}

function withoutNamespace(element: XmlNode): XmlNode {
  const attrs = Object.fromEntries(Object.entries(element.attrs).filter(([name]) => !name.startsWith('xmlns')))
  const children = element.children.map((child) => (typeof child === 'string' ? child : withoutNamespace(child)))
  return { name: element.name.split(':').at(-1) ?? element.name, attrs, children }
}

function set(host: SimHost, domain: SimDomain, change: Change, flags: number): void {
  const { LIVE, CONFIG } = DomainModificationImpact
  const live = (flags & LIVE) !== 0 || ((flags & 3) === 0 && domain.active)
  const config = (flags & CONFIG) !== 0 || ((flags & 3) === 0 && !domain.active)
  if (live && !domain.active) throw notValid('domain is not running', 'DOMAIN')
  if (config && !domain.persistent) throw notValid('transient domains do not have any persistent config', 'DOMAIN')
  if (live && domain.live) domain.live = changed(domain.live, change)
  if (config && domain.persistent) domain.persistent = changed(domain.persistent, change)
  host.emit('DOMAIN_EVENT_CALLBACK_METADATA_CHANGE', domain.uuid, {
    dom: domain.ref,
    type: change.type,
    nsuri: change.uri
  })
}

function get(domain: SimDomain, type: number, uri: string | null, flags: number): string {
  const config = (flags & DomainModificationImpact.CONFIG) !== 0
  const def = config ? domain.persistent : domain.current
  if (!def) throw notValid('transient domains do not have any persistent config', 'DOMAIN')
  const tree = parseXml(def.xml)
  const absent = refuse('NO_DOMAIN_METADATA', 'DOMAIN', 'Requested metadata element is not present')
  if (type !== DomainMetadataType.ELEMENT) {
    const text = textAt(tree, type === DomainMetadataType.TITLE ? 'title' : 'description')
    if (text === null) throw absent
    return text
  }
  const element = elements(find(tree, 'metadata')).find((other) => namespaceOf(other) === uri)
  if (!element) throw absent
  return printXml(withoutNamespace(element), 0, '"').trimEnd()
}

export const metadataCalls: Handlers = {
  DOMAIN_SET_METADATA: async ({ dom, flags, ...change }, host) => {
    const domain = host.domain(dom)
    await asJob(host, domain, 'modify', 'DomainSetMetadata', () => set(host, domain, change, flags))
    return {}
  },
  DOMAIN_GET_METADATA: ({ dom, type, uri, flags }, host) => ({ metadata: get(host.domain(dom), type, uri, flags) })
}
