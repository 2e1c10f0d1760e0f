// An edited definition put together again: whoever edited it was not shown the display's password, and means to keep it.
import type { Element } from '@xmldom/xmldom'
import type { VmMark } from '../model/vm.ts'
import { setMark } from './mark.ts'
import { attributeOf, childOf, childrenOf, parseXml, printXml, textOf, XmlError } from './xml.ts'

/** What libvirt shows in place of a password. */
const MASK = '*****'

/** Attributes that go with a password. */
const SECRETS = ['passwd', 'passwdValidTo'] as const

/**
 * @param current with its secrets, and as it was shown
 * @throws XmlError for what is not a domain, has a document type, is too long, or names another VM
 */
export function editedXml(edited: string, current: { secure: string; shown: string }, mark: VmMark): string {
  const domain = parseXml(edited, 'domain', { given: true })
  const [secure, shown] = [parseXml(current.secure, 'domain'), parseXml(current.shown, 'domain')]
  for (const name of ['uuid', 'name']) {
    const [is, was] = [textOf(domain, name), textOf(secure, name)]
    if (is !== was) throw new XmlError(`its ${name} is ${is ?? 'missing'} and must stay ${was ?? 'as it is'}`)
  }
  for (const [key, display] of displays(domain)) {
    const [old, seen] = [displays(secure).get(key), displays(shown).get(key)]
    const given = attributeOf(display, 'passwd')
    const hidden = given === null && attributeOf(seen, 'passwd') === null
    if (given !== MASK && !hidden) continue
    for (const secret of SECRETS) {
      const value = attributeOf(old, secret)
      if (value !== null) display.setAttribute(secret, value)
    }
    if (given === MASK && attributeOf(old, 'passwd') === null)
      throw new XmlError(`${MASK} stands for a password, and the display never had one`)
  }
  setMark(domain, mark)
  return printXml(domain)
}

/** By type and number: the second VNC display is `vnc 1`. */
function displays(domain: Element): Map<string, Element> {
  const counts = new Map<string, number>()
  return new Map(
    childrenOf(childOf(domain, 'devices'), 'graphics').map((element) => {
      const type = attributeOf(element, 'type') ?? ''
      const number = counts.get(type) ?? 0
      counts.set(type, number + 1)
      return [`${type} ${number}`, element]
    })
  )
}
