// Options' and operands' text as the values that actions take.
import { parseCloudInit } from './cloud-init.ts'
import type { Kind, OptionSpec } from './command.ts'
import { usage } from './failure.ts'
import { parseCount, parseMiB, parsePairs, parseSeconds, parseTime } from './parse.ts'

type Limits = Pick<OptionSpec, 'min' | 'max' | 'choices'>

/** @param what names the option or operand in refusals */
export function valueOf(kind: Kind, text: string, what: string, limits: Limits = {}): unknown {
  if (limits.choices && !limits.choices.includes(text)) {
    throw usage(`${what}: ${JSON.stringify(text)} is not possible`, `one of ${limits.choices.join(', ')}`)
  }
  switch (kind) {
    case 'flag':
      return true
    case 'count':
      return parseCount(text, what, limits)
    case 'mib':
      return parseMiB(text, what)
    case 'seconds':
      return parseSeconds(text, what)
    case 'time':
      return parseTime(text, what)
    case 'disk':
      return disk(text, what)
    case 'nic':
      return nic(text, what)
    case 'cloudInit':
      return parseCloudInit(text, what)
    default:
      if (text === '') throw usage(`${what} is empty`, 'give a value')
      return text
  }
}

/** `size=10GiB,store=nfs1[,name=…][,from=STORE/VOLUME][,format=qcow2|raw]`, or `volume=STORE/NAME` for one that exists. */
function disk(text: string, what: string): Record<string, unknown> {
  const pairs = parsePairs(text, what, ['size', 'store', 'name', 'from', 'format', 'bus', 'volume', 'cdrom', 'linked'])
  const { size, cdrom, linked, ...rest } = Object.fromEntries(pairs)
  return {
    ...rest,
    ...(cdrom === undefined ? {} : { cdrom: true }),
    ...(linked === undefined ? {} : { linked: true }),
    ...(size === undefined ? {} : { sizeMiB: parseMiB(size, `${what} size`) })
  }
}

/** `network=default` or `bridge=br0`, with `mac=` and `model=` if wanted; a bare word is a network. */
function nic(text: string, what: string): Record<string, unknown> {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(text)) return { network: text }
  return Object.fromEntries(parsePairs(text, what, ['network', 'bridge', 'mac', 'model']))
}
