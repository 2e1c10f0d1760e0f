// XML as a simulated host reads and writes it: a small tree, and text indented and quoted as libvirt's.
// What the elements mean is for domain-xml.ts, storage-xml.ts and network-xml.ts.

import { DOMParser, type Element as DomElement } from '@xmldom/xmldom'
import { refuse } from './refusal.ts'

export type XmlNode = { name: string; attrs: Record<string, string>; children: (XmlNode | string)[] }

const maxXmlBytes = 4_194_304
const elementNode = 1
const textNode = 3
const cdataNode = 4

/** Reads one document. Refuses what is not well-formed, what has a DOCTYPE (entities), and what is not a `root` element. */
export function parseXml(text: string, root?: string): XmlNode {
  if (text.length > maxXmlBytes) throw refuse('XML_ERROR', 'XML', 'document too large')
  if (/<!DOCTYPE/i.test(text)) throw refuse('XML_DETAIL', 'XML', '(document): a DOCTYPE is not accepted')
  let element: DomElement | null
  try {
    const parser = new DOMParser({
      onError: (level, message) => {
        if (level !== 'warning') throw new Error(message)
      }
    })
    element = parser.parseFromString(text, 'text/xml').documentElement
  } catch (error) {
    throw refuse('XML_DETAIL', 'XML', `(document): ${error instanceof Error ? error.message : String(error)}`)
  }
  if (!element) throw refuse('XML_DETAIL', 'XML', '(document): Document is empty')
  const node = toNode(element)
  if (root !== undefined && node.name !== root)
    throw refuse('XML_ERROR', 'XML', `unexpected root element <${node.name}>, expecting <${root}>`)
  return node
}

function toNode(element: DomElement): XmlNode {
  const attrs: Record<string, string> = {}
  for (let i = 0; i < element.attributes.length; i++) {
    const attr = element.attributes.item(i)
    if (attr) attrs[attr.name] = attr.value
  }
  const children: (XmlNode | string)[] = []
  for (let child = element.firstChild; child; child = child.nextSibling) {
    if (child.nodeType === elementNode) children.push(toNode(child as DomElement))
    else if (child.nodeType === textNode || child.nodeType === cdataNode) {
      const text = child.nodeValue ?? ''
      if (text.trim() !== '') children.push(text)
    }
  }
  return { name: element.nodeName, attrs, children }
}

/** Text with two blanks of indentation a level and single quotes; inside `<metadata>` double quotes, as libvirt has it. */
export function printXml(node: XmlNode, depth = 0, quote = "'"): string {
  const pad = '  '.repeat(depth)
  let open = `${pad}<${node.name}`
  for (const [key, value] of Object.entries(node.attrs)) open += ` ${key}=${quote}${escape(value, quote)}${quote}`
  if (node.children.length === 0) return `${open}/>\n`
  if (node.children.every((child) => typeof child === 'string'))
    return `${open}>${escape(node.children.join(''))}</${node.name}>\n`
  const inner = node.name === 'metadata' ? '"' : quote
  const body = node.children
    .map((child) => (typeof child === 'string' ? '' : printXml(child, depth + 1, inner)))
    .join('')
  return `${open}>\n${body}${pad}</${node.name}>\n`
}

const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&apos;' }

function escape(text: string, quote = ''): string {
  return text.replace(/[&<>"']/g, (char) => {
    if ((char === '"' || char === "'") && char !== quote) return char
    return escapes[char] ?? char
  })
}

export const node = (
  name: string,
  attrs: Record<string, string | number> = {},
  children: (XmlNode | string)[] = []
): XmlNode => ({
  name,
  attrs: Object.fromEntries(Object.entries(attrs).map(([key, value]) => [key, String(value)])),
  children
})

export const elements = (parent: XmlNode | undefined, name?: string): XmlNode[] =>
  (parent?.children ?? []).filter(
    (child): child is XmlNode => typeof child !== 'string' && (name === undefined || child.name === name)
  )

/** The first element at a path of names below `parent`. */
export function find(parent: XmlNode | undefined, ...path: string[]): XmlNode | undefined {
  let at = parent
  for (const name of path) at = elements(at, name)[0]
  return at
}

/** All text directly in an element, trimmed. */
export const textOf = (element: XmlNode): string =>
  element.children
    .filter((child) => typeof child === 'string')
    .join('')
    .trim()

/** Text of the element at a path, trimmed; null where there is no such element or no text. */
export function textAt(parent: XmlNode | undefined, ...path: string[]): string | null {
  const at = find(parent, ...path)
  if (!at) return null
  const text = at.children
    .filter((child) => typeof child === 'string')
    .join('')
    .trim()
  return text === '' ? null : text
}

/** Puts `child` in the place of the parent's first element of that name, or at the end. */
export function putChild(parent: XmlNode, child: XmlNode): void {
  const at = parent.children.findIndex((other) => typeof other !== 'string' && other.name === child.name)
  if (at < 0) parent.children.push(child)
  else parent.children[at] = child
}

export function removeChildren(parent: XmlNode, name: string): void {
  parent.children = parent.children.filter((child) => typeof child === 'string' || child.name !== name)
}

const scales: Record<string, bigint> = {
  b: 1n,
  bytes: 1n,
  byte: 1n,
  kb: 1000n,
  k: 1024n,
  kib: 1024n,
  mb: 1_000_000n,
  m: 1024n ** 2n,
  mib: 1024n ** 2n,
  gb: 1_000_000_000n,
  g: 1024n ** 3n,
  gib: 1024n ** 3n,
  tb: 10n ** 12n,
  t: 1024n ** 4n,
  tib: 1024n ** 4n,
  pb: 10n ** 15n,
  p: 1024n ** 5n,
  pib: 1024n ** 5n,
  eb: 10n ** 18n,
  e: 1024n ** 6n,
  eib: 1024n ** 6n
}

/** Bytes of a size with its `unit` attribute, undefined where the element is missing. Refuses what is no size. */
export function bytesAt(element: XmlNode | undefined, defaultUnit: string): bigint | undefined {
  if (!element) return undefined
  const text = textOf(element)
  const scale = scales[(element.attrs['unit'] ?? defaultUnit).toLowerCase()]
  if (scale === undefined) throw refuse('INVALID_ARG', 'NONE', `unknown suffix '${element.attrs['unit'] ?? ''}'`)
  if (!/^\d{1,19}$/.test(text)) throw refuse('XML_ERROR', 'NONE', `could not parse element ${element.name}`)
  const bytes = BigInt(text) * scale
  if (bytes > 2n ** 63n - 1n) throw refuse('OVERFLOW', 'NONE', `value too large: ${text}${element.attrs['unit'] ?? ''}`)
  return bytes
}
