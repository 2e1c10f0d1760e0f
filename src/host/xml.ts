// Reading and writing XML safely: no document type (and so no entities), bounded, no NUL; everything written is escaped.
import { DOMParser, XMLSerializer, type Element } from '@xmldom/xmldom'

/** XML that a person gives. A host's own may be as long as the protocol allows. */
export const GIVEN_XML_BYTES = 1024 * 1024
const HOST_XML_CHARACTERS = 16 * 1024 * 1024

export class XmlError extends Error {
  override readonly name = 'XmlError'
}

/** The root element, which must be `root`. @throws XmlError naming what is wrong */
export function parseXml(text: string, root: string, options: { given?: boolean } = {}): Element {
  if (options.given && Buffer.byteLength(text) > GIVEN_XML_BYTES)
    throw new XmlError(`the XML has ${Buffer.byteLength(text)} bytes, ${GIVEN_XML_BYTES} are allowed`)
  if (text.length > HOST_XML_CHARACTERS) throw new XmlError(`the XML has ${text.length} characters`)
  if (text.includes('\0')) throw new XmlError('the XML contains NUL')
  // Before the parser sees it: a document type can only define what must not be defined here.
  if (/<!DOCTYPE|<!ENTITY/i.test(text)) throw new XmlError('the XML has a document type, which is not allowed')
  const parser = new DOMParser({
    onError(level, message) {
      throw new XmlError(`${level}: ${message.slice(0, 300)}`)
    }
  })
  let element: Element | null
  try {
    element = parser.parseFromString(text, 'text/xml').documentElement
  } catch (error) {
    const why = error instanceof Error ? error.message.slice(0, 300) : String(error)
    throw new XmlError(`this is not well-formed XML: ${why}`, { cause: error })
  }
  if (element?.nodeName !== root)
    throw new XmlError(`the outermost element is <${element?.nodeName.slice(0, 80) ?? ''}>, not <${root}>`)
  return element
}

export const printXml = (element: Element): string => new XMLSerializer().serializeToString(element)

/** Child elements, of that name if one is given. */
export function childrenOf(element: Element | undefined, name?: string): Element[] {
  const found: Element[] = []
  for (let node = element?.firstChild ?? null; node; node = node.nextSibling)
    if (node.nodeType === 1 && (name === undefined || node.nodeName === name)) found.push(node as Element)
  return found
}

/** The first child element at the end of a path of names. */
export function childOf(element: Element | undefined, ...path: string[]): Element | undefined {
  let at = element
  for (const name of path) at = childrenOf(at, name)[0]
  return at
}

/** Text of the element at the end of the path, trimmed; null where there is none or it is empty. */
export const textOf = (element: Element | undefined, ...path: string[]): string | null =>
  childOf(element, ...path)?.textContent?.trim() || null

export const attributeOf = (element: Element | undefined, name: string): string | null =>
  element?.getAttribute(name) || null

// libvirt: docs/formatdomain, "memory"; KB, MB … are powers of 1000.
const unitBytes: Record<string, number> = {
  b: 1,
  bytes: 1,
  kb: 1e3,
  k: 1024,
  kib: 1024,
  mb: 1e6,
  m: 1024 ** 2,
  mib: 1024 ** 2,
  gb: 1e9,
  g: 1024 ** 3,
  gib: 1024 ** 3,
  tb: 1e12,
  t: 1024 ** 4,
  tib: 1024 ** 4
}

/** A size with its unit; 0 where there is none. */
export function bytesOf(element: Element | undefined, defaultUnit: 'KiB' | 'bytes'): number {
  const value = Number(element?.textContent?.trim() || 0)
  const unit = unitBytes[(attributeOf(element, 'unit') ?? defaultUnit).toLowerCase()] ?? 1
  return Number.isFinite(value) ? Math.round(value * unit) : 0
}

export const mebibytes = (bytes: number): number => Math.round(bytes / 1024 ** 2)

const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&apos;' }

/**
 * A value as text or attribute.
 * @throws XmlError for characters that XML cannot hold
 */
export function escapeXml(value: string): string {
  // eslint-disable-next-line no-control-regex -- control characters are what is looked for
  if (/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/.test(value))
    throw new XmlError(`${JSON.stringify(value.slice(0, 80))} has characters that XML cannot hold`)
  return value.replaceAll(/[&<>"']/g, (character) => escapes[character] ?? character)
}

/** Attributes in the order given; those without a value are left out. */
export const attributes = (values: Record<string, string | number | null | undefined>): string =>
  Object.entries(values)
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) => ` ${name}="${escapeXml(String(value))}"`)
    .join('')
