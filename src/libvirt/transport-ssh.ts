// A daemon through ssh: `ssh HOST virt-ssh-helper URI` is spawned, and its pipes are the byte stream. The login, the keys and the
// trust in the host's key are ssh's; it is never asked for a password (BatchMode), since nobody is there to type it.

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { Duplex } from 'node:stream'
import { ConnectionError } from './errors.ts'
import type { Transport } from './transport.ts'
import { asError } from './transport-unix.ts'
import type { HostUri } from './uri.ts'

export interface SshOptions {
  /** The program. Default: ssh. */
  readonly command?: string
  /** Options put before ours, e.g. ['-o', 'ProxyJump=gate'], or ['-F', file]. */
  readonly args?: readonly string[]
  /** What runs on the host, the URI as its last argument. Default: ['virt-ssh-helper']. */
  readonly helper?: readonly string[]
}

const stderrBytes = 4096

export async function openSsh(
  uri: HostUri,
  options: SshOptions,
  readOnly: boolean,
  signal: AbortSignal
): Promise<Transport> {
  const address = `ssh ${uri.user ? `${uri.user}@` : ''}${uri.host ?? ''}`
  const child = spawn(options.command ?? 'ssh', sshArgs(uri, options, readOnly), { stdio: 'pipe' })
  const stream = new Pipes(child)
  const abort = (): void => void stream.destroy(asError(signal.reason))
  signal.addEventListener('abort', abort, { once: true })
  try {
    if (signal.aborted) abort()
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve).once('error', reject)
    })
    return { stream, address }
  } catch (error) {
    throw new ConnectionError('unreachable', `${address} cannot be started: ${asError(error).message}`, {
      cause: error
    })
  } finally {
    signal.removeEventListener('abort', abort)
  }
}

/** The arguments of ssh. No shell is run here; the far side's login shell gets single-quoted words. */
export function sshArgs(uri: HostUri, options: SshOptions, readOnly: boolean): string[] {
  const helper = [...(options.helper ?? ['virt-ssh-helper']), ...(readOnly ? ['-r'] : []), uri.name]
  return [
    ...(options.args ?? []),
    '-T',
    '-oEscapeChar=none',
    '-oBatchMode=yes',
    '-oConnectTimeout=10',
    '-oServerAliveInterval=15',
    '-oForwardAgent=no',
    ...(uri.user ? ['-l', uri.user] : []),
    ...(uri.port ? ['-p', String(uri.port)] : []),
    ...(uri.keyFile ? ['-i', uri.keyFile, '-o', 'IdentitiesOnly=yes'] : []),
    ...(uri.knownHosts ? ['-o', `UserKnownHostsFile="${uri.knownHosts.replaceAll(/["\\]/g, '')}"`] : []),
    '--',
    uri.host ?? '',
    helper.map(shellQuote).join(' ')
  ]
}

function shellQuote(word: string): string {
  return `'${word.replaceAll("'", String.raw`'\''`)}'`
}

// Both pipes as one stream. Its end waits for ssh's, whose exit code and last words on stderr tell whether it was an end or a failure.
class Pipes extends Duplex {
  readonly #child: ChildProcessWithoutNullStreams
  #lastWords = ''

  constructor(child: ChildProcessWithoutNullStreams) {
    super()
    this.#child = child
    child.stdout.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) child.stdout.pause()
    })
    child.stderr
      .setEncoding('utf8')
      .on('data', (text: string) => (this.#lastWords = (this.#lastWords + text).slice(-stderrBytes)))
    // A closed pipe is told by ssh's end, with its reason; and when ssh cannot be started nobody listens to us yet.
    for (const pipe of [child.stdin, child.stdout, child.stderr, this]) pipe.on('error', () => {})
    child.on('close', (code, killedBy) => this.#ended(code, killedBy))
  }

  override _read(): void {
    this.#child.stdout.resume()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#child.stdin.write(chunk, () => callback())
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#child.stdin.end(() => callback())
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#child.kill()
    callback(error)
  }

  #ended(code: number | null, killedBy: NodeJS.Signals | null): void {
    if (code === 0) this.push(null)
    else {
      const how = killedBy ? `was ended by ${killedBy}` : `ended with code ${code}`
      const words = this.#lastWords.trim()
      this.destroy(new Error(`ssh ${how}${words ? `: ${words}` : ''}`))
    }
  }
}
