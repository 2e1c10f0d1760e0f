// A VM's definition given as XML: what it says, or what is wrong with it. The host's own parser has the last word.
import { readVmXml, type VmFromXml } from '../host/observed-vm.ts'
import { XmlError } from '../host/xml.ts'

/** Document types, entities and what is not well-formed are problems. */
export function readGivenXml(xml: string): { vm: VmFromXml; problem?: never } | { vm?: never; problem: string } {
  try {
    return { vm: readVmXml(xml) }
  } catch (error) {
    if (error instanceof XmlError) return { problem: error.message }
    throw error
  }
}
