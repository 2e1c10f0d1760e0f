// Throw-away certificates for TLS tests, made by openssl in a folder of the test's.

import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Credentials {
  readonly ca: string
  readonly cert: string
  readonly key: string
}

const openssl = (...args: string[]): Buffer => execFileSync('openssl', args, { stdio: ['ignore', 'pipe', 'ignore'] })
const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']

export class CertificateAuthority {
  readonly caFile: string
  readonly #folder: string
  readonly #name: string

  constructor(folder: string, name: string) {
    this.#folder = folder
    this.#name = name
    this.caFile = join(folder, `${name}.pem`)
    const usage = ['-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign,cRLSign']
    openssl(
      'req',
      '-x509',
      ...newKey,
      '-days',
      '2',
      '-subj',
      `/CN=${name}`,
      ...usage,
      '-keyout',
      this.#at('ca-key'),
      '-out',
      this.caFile
    )
  }

  /** A certificate for `names`, e.g. `DNS:localhost,IP:127.0.0.1`. `expired` makes it end yesterday. */
  issue(who: string, names: string, options: { expired?: boolean } = {}): Credentials {
    const [key, request, cert, extensions] = [`${who}-key`, `${who}-csr`, `${who}-cert`, `${who}-ext`].map((name) =>
      this.#at(name)
    )
    openssl('req', ...newKey, '-subj', `/CN=${who}`, '-keyout', key!, '-out', request!)
    writeFileSync(
      extensions!,
      `basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=${names}\n`
    )
    const days = options.expired ? '-1' : '2'
    const signer = ['-CA', this.caFile, '-CAkey', this.#at('ca-key'), '-CAcreateserial', '-extfile', extensions!]
    openssl('x509', '-req', '-in', request!, ...signer, '-days', days, '-out', cert!)
    return { ca: this.caFile, cert: cert!, key: key! }
  }

  #at(name: string): string {
    return join(this.#folder, `${this.#name}-${name}.pem`)
  }
}

/** The texts of the files. */
export function pem(files: Credentials): Credentials {
  const read = (file: string): string => readFileSync(file, 'utf8')
  return { ca: read(files.ca), cert: read(files.cert), key: read(files.key) }
}
