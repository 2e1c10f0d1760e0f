// libvirt's addresses: driver[+transport]://[user@][host][:port]/path[?parameters]. Parsing and refusing only; nothing is opened here.
// Parameters that make a client run another program (`command`, `netcat`) or trust anybody (`no_verify`) are refused: an address may come
// from someone who may not do that.

import { ConnectionError } from './errors.ts'

export type TransportName = 'unix' | 'tls' | 'ssh' | 'tcp'

export interface HostUri {
  readonly driver: string
  readonly transport: TransportName
  readonly user: string | null
  /** Without the brackets of an IPv6 address. */
  readonly host: string | null
  readonly port: number | null
  /** What the daemon is asked to open, e.g. `qemu:///system`. */
  readonly name: string
  /** A unix socket other than the usual one. */
  readonly socket: string | null
  /** Folder with cacert.pem, clientcert.pem and clientkey.pem. */
  readonly pkiPath: string | null
  /** ssh's identity file and known hosts. */
  readonly keyFile: string | null
  readonly knownHosts: string | null
  /** The address as given, without a password. */
  readonly text: string
}

const shapes =
  /^([a-z][a-z0-9]*)(?:\+([a-z0-9]+))?:\/\/(?:([^@/?#]*)@)?(\[[^\]]*\]|[^:/?#]*)(?::([^/?#]*))?(\/[^?#]*)?(?:\?([^#]*))?$/
const hostNames = /^(?!-)[A-Za-z0-9._-]{1,253}$/
const addresses6 = /^[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9]+)?$/
const userNames = /^(?!-)[A-Za-z0-9._@\\-]{1,64}$/
const transports: readonly string[] = ['unix', 'tls', 'ssh', 'tcp']
const parameters: Record<TransportName, readonly string[]> = {
  unix: ['socket', 'name'],
  tls: ['pkipath', 'name'],
  ssh: ['keyfile', 'known_hosts', 'name'],
  tcp: ['name']
}

/** Throws ConnectionError `bad_uri`, which names what is wrong and what is allowed. */
export function parseUri(text: string): HostUri {
  const match = text.length <= 4096 ? shapes.exec(text) : null
  const printable = JSON.stringify(text.slice(0, 200))
  if (!match) throw bad(printable, 'it has not the form driver[+transport]://[user@][host][:port]/path[?parameters]')
  const [, driver = '', asked, user, bracketed = '', portText, path = '', query = ''] = match
  const host = bracketed.replaceAll(/^\[|\]$/g, '') || null
  // libvirt's own rule: a host without a transport means TLS.
  const transport = asked ?? (host ? 'tls' : 'unix')
  if (!isTransport(transport)) throw bad(printable, `transport ${transport} is not one of ${transports.join(', ')}`)
  checkAuthority(printable, transport, host, bracketed.startsWith('['), user, portText)
  const given = parseParameters(printable, transport, query)
  return {
    driver,
    transport,
    user: user ?? null,
    host,
    port: portText ? Number(portText) : null,
    name: given.get('name') ?? `${driver}://${path}`,
    socket: absolute(printable, 'socket', given),
    pkiPath: absolute(printable, 'pkipath', given),
    keyFile: absolute(printable, 'keyfile', given),
    knownHosts: absolute(printable, 'known_hosts', given),
    text
  }
}

function checkAuthority(
  printable: string,
  transport: TransportName,
  host: string | null,
  bracketed: boolean,
  user: string | undefined,
  port: string | undefined
): void {
  if (transport === 'unix') {
    if (host !== null || user !== undefined || port !== undefined)
      throw bad(printable, 'a unix socket has no host, user or port')
    return
  }
  if (host === null) throw bad(printable, `transport ${transport} needs a host`)
  if (!(bracketed ? addresses6 : hostNames).test(host))
    throw bad(
      printable,
      `${JSON.stringify(host)} is not a host name: letters, digits, dot, hyphen and underscore, not beginning with a hyphen`
    )
  if (user !== undefined && transport !== 'ssh')
    throw bad(printable, `transport ${transport} has no user; the certificate names it`)
  if (user !== undefined && !userNames.test(user)) throw bad(printable, `${JSON.stringify(user)} is not a user name`)
  if (port !== undefined && (!/^[0-9]{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65_535))
    throw bad(printable, `${JSON.stringify(port)} is not a port`)
}

function parseParameters(printable: string, transport: TransportName, query: string): Map<string, string> {
  const given = new Map<string, string>()
  for (const [key, value] of new URLSearchParams(query)) {
    if (!parameters[transport].includes(key))
      throw bad(
        printable,
        `parameter ${JSON.stringify(key)} is not allowed; ${transport} has ${parameters[transport].join(', ')}`
      )
    if (given.has(key)) throw bad(printable, `parameter ${key} is given twice`)
    // eslint-disable-next-line no-control-regex -- control characters are what is looked for
    if (value === '' || /[\u0000-\u001f\u007f]/.test(value))
      throw bad(printable, `parameter ${key} is empty or has control characters`)
    given.set(key, value)
  }
  return given
}

function absolute(printable: string, key: string, given: Map<string, string>): string | null {
  const value = given.get(key)
  if (value !== undefined && !value.startsWith('/')) throw bad(printable, `parameter ${key} must be an absolute path`)
  return value ?? null
}

function isTransport(name: string): name is TransportName {
  return transports.includes(name)
}

function bad(printable: string, why: string): ConnectionError {
  return new ConnectionError('bad_uri', `${printable} is not an address of a host: ${why}`)
}
