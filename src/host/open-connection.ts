// Opens a connection to a host's daemon and makes sure that the machine behind the address is the one that was added.
import { readFile } from 'node:fs/promises'
import { connect, type OpenConnection } from '../libvirt/connect.ts'
import type { ConnectOptions } from '../libvirt/connect.ts'
import { derivedUuid, readCapabilities } from './capabilities.ts'
import { toHostError, type HostBasics } from './calls.ts'
import { HostError } from './error.ts'

export type ConnectSettings = {
  /** Paths of PEM files, read at every connect so that renewed ones are taken. Default: libvirt's own in /etc/pki. */
  tls?: { caFile: string; certFile: string; keyFile: string }
  ssh?: NonNullable<ConnectOptions['ssh']>
  /** Allow `+tcp`, which is neither secret nor authenticated. Default false. */
  allowPlaintext?: boolean
  /** Default 15,000. */
  connectTimeoutMs?: number
  /** Asking whether the host is there. Default: every 5 s, given up after 5 unanswered. */
  keepalive?: NonNullable<ConnectOptions['keepalive']>
  /** Longest wait for an answer to a question that never waits for a guest. Default 60,000. */
  readTimeoutMs?: number
}

export type Opened = { connection: OpenConnection; basics: HostBasics }

/**
 * @param machine the UUID that must answer; null takes whatever does
 * @throws HostError `unreachable`, `wrong_identity`, `bad_input` for an address that cannot be understood
 */
export async function openConnection(
  address: { name: string; controlUri: string },
  machine: string | null,
  settings: ConnectSettings,
  options: { signal?: AbortSignal; onEventsLost?: (count: number) => void } = {}
): Promise<Opened> {
  let connection: OpenConnection | undefined
  try {
    connection = await connect(address.controlUri, await connectOptions(settings, options))
    const [{ capabilities: xml }, { lib_ver: version }] = await Promise.all([
      connection.call('CONNECT_GET_CAPABILITIES', {}),
      connection.call('CONNECT_GET_LIB_VERSION', {})
    ])
    const capabilities = readCapabilities(xml)
    const uuid = capabilities.uuid ?? derivedUuid(address.controlUri)
    if (machine !== null && uuid !== machine) {
      throw new HostError(
        'wrong_identity',
        address.name,
        `${address.name}: the machine at ${address.controlUri} is ${uuid}, not ${machine} which was added; if it was replaced, ` +
          'remove the host and add it again'
      )
    }
    return { connection, basics: { capabilities, uuid, libVersion: Number(version) } }
  } catch (error) {
    connection?.destroy()
    throw toHostError(error, address.name, true)
  }
}

async function connectOptions(
  settings: ConnectSettings,
  options: { signal?: AbortSignal; onEventsLost?: (count: number) => void }
): Promise<ConnectOptions> {
  const { tls, ssh, allowPlaintext, connectTimeoutMs, keepalive } = settings
  return {
    ...(tls ? { tls: await readCredentials(tls) } : {}),
    ...(ssh ? { ssh } : {}),
    ...(allowPlaintext === undefined ? {} : { allowPlaintext }),
    ...(connectTimeoutMs === undefined ? {} : { connectTimeoutMs }),
    ...(keepalive === undefined ? {} : { keepalive }),
    ...(options.signal ? { signal: options.signal } : {}),
    ...(options.onEventsLost ? { onEventsLost: options.onEventsLost } : {}),
    // A listing of a large host is put in line at once; its size is bounded by what the host has.
    maxQueued: 100_000
  }
}

async function readCredentials(files: NonNullable<ConnectSettings['tls']>) {
  const [ca, cert, key] = await Promise.all([readFile(files.caFile), readFile(files.certFile), readFile(files.keyFile)])
  return { ca, cert, key }
}
