// Certificates for the hosts of the system tests: one authority a run, one certificate a host (server and client at once,
// since a host is a client of its peers when it migrates to them) and one for the manager. Made by openssl; never kept.

import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { run } from './command.ts'

export type CertificateFiles = { cert: string; key: string }
export type Authority = { ca: string; issue(name: string, more: IssueOptions): Promise<CertificateFiles> }
export type IssueOptions = {
  /** Subject alternative names as openssl writes them: `DNS:h1,IP:10.77.0.1`. */
  names: string
  usage: 'serverAuth' | 'clientAuth' | 'serverAuth,clientAuth'
}

const newKey = '-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'

/** No argument here contains a space: temporary paths, names of hosts, constants. */
function openssl(...words: string[]): Promise<string> {
  return run('openssl', words.join(' ').split(' '))
}

/** Makes a certificate authority in `directory` that issues certificates for two days. */
export async function createAuthority(directory: string): Promise<Authority> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const ca = join(directory, 'ca-cert.pem')
  const caKey = join(directory, 'ca-key.pem')
  await openssl(
    `req -x509 ${newKey} -days 2 -keyout ${caKey} -out ${ca} -subj /CN=taskomatic-test-authority`,
    '-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign'
  )

  async function issue(name: string, { names, usage }: IssueOptions): Promise<CertificateFiles> {
    const path = (suffix: string): string => join(directory, `${name}${suffix}`)
    const [cert, key, request, extensions] = [path('-cert.pem'), path('-key.pem'), path('.csr'), path('.ext')]
    await writeFile(
      extensions,
      [
        'basicConstraints=critical,CA:FALSE',
        'keyUsage=critical,digitalSignature,keyEncipherment',
        `extendedKeyUsage=${usage}`,
        `subjectAltName=${names}`
      ].join('\n')
    )
    await openssl(`req ${newKey} -subj /O=taskomatic-tests/CN=${name} -keyout ${key} -out ${request}`)
    // A serial of its own: with -CAcreateserial two certificates issued at once would share the counter's file.
    const serial = `0x${randomBytes(8).toString('hex')}`
    await openssl(
      `x509 -req -in ${request} -CA ${ca} -CAkey ${caKey} -set_serial ${serial} -days 2`,
      `-extfile ${extensions} -out ${cert}`
    )
    return { cert, key }
  }

  return { ca, issue }
}
