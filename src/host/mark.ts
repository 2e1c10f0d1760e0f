// Our mark in a VM's metadata: which installation made it, for which task. Metadata with another namespace is somebody else's.
import type { Element } from '@xmldom/xmldom'
import type { VmMark } from '../model/vm.ts'
import { attributeOf, attributes, childOf, childrenOf } from './xml.ts'

export const MARK_NAMESPACE = 'urn:taskomatic:vm:1'
/** The prefix that is used in the XML, and the key for libvirt. */
export const MARK_KEY = 'taskomatic'
const MARK_NAME = 'vm'

/** The mark as an element that brings its namespace along. */
export const markElement = (mark: VmMark): string =>
  `<${MARK_KEY}:${MARK_NAME} xmlns:${MARK_KEY}="${MARK_NAMESPACE}"${markAttributes(mark)}/>`

/** The mark for DOMAIN_SET_METADATA, which adds prefix and namespace itself. */
export const bareMarkElement = (mark: VmMark): string => `<${MARK_NAME}${markAttributes(mark)}/>`

const markAttributes = ({ instance, task, generation }: VmMark) => attributes({ instance, task, generation })

export function readMark(domain: Element): VmMark | null {
  const element = childrenOf(childOf(domain, 'metadata')).find(isMark)
  const [instance, task, generation] = ['instance', 'task', 'generation'].map((name) => attributeOf(element, name))
  if (!instance || !task) return null
  return { instance, task: Number(task) || 0, generation: Number(generation) || 0 }
}

/** Namespaces of metadata that is not ours. */
export function foreignMetadata(domain: Element): string[] {
  const names = childrenOf(childOf(domain, 'metadata'))
    .filter((element) => !isMark(element))
    .map((element) => element.namespaceURI ?? element.nodeName)
  return [...new Set(names)]
}

const isMark = (element: Element) => element.namespaceURI === MARK_NAMESPACE

/** Puts the mark in place of any earlier one. */
export function setMark(domain: Element, mark: VmMark): void {
  const document = domain.ownerDocument
  if (!document) return
  let metadata = childOf(domain, 'metadata')
  if (!metadata) {
    metadata = document.createElement('metadata')
    domain.insertBefore(metadata, childOf(domain, 'devices') ?? null)
  }
  for (const old of childrenOf(metadata).filter(isMark)) metadata.removeChild(old)
  const element = document.createElementNS(MARK_NAMESPACE, `${MARK_KEY}:${MARK_NAME}`)
  element.setAttribute('instance', mark.instance)
  element.setAttribute('task', String(mark.task))
  element.setAttribute('generation', String(mark.generation))
  metadata.appendChild(element)
}
