// Everything a test host finds on its disk: configuration of libvirtd, QEMU and sshd, certificates, keys, accounts.
// Only writes files below the host's own directory; host-init.sh puts them where the daemons look.

import { copyFile, cp, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Authority } from './certificates.ts'
import { run } from './command.ts'

export type HostFilesOptions = {
  name: string
  address: string
  uuid: string
  directory: string
  /** Lines of /etc/hosts for all hosts of the run. */
  hostsFile: string
  limits: LibvirtLimits
  keepalive: Keepalive
  authority: Authority
  /** The public key that may log in as root. */
  authorizedKey: string
}

/** libvirtd.conf's limits; `stock` leaves the file without them: 5 requests a connection, 20 workers. */
export type LibvirtLimits = 'stock' | { maxClientRequests: number; maxWorkers: number }

/** After how long of silence a daemon, and a migration between two of them, gives a connection up: (count + 1) × interval. */
export type Keepalive = { intervalSeconds: number; count: number }

const keepaliveLines = ({ intervalSeconds, count }: Keepalive): string[] => [
  `keepalive_interval = ${intervalSeconds}`,
  `keepalive_count = ${count}`
]

function libvirtdConf({ address, uuid, limits, keepalive }: HostFilesOptions): string {
  const lines = [
    'unix_sock_dir = "/run/libvirt"',
    'auth_unix_ro = "none"',
    'auth_unix_rw = "none"',
    'listen_tls = 1',
    'listen_tcp = 0',
    'auth_tls = "none"', // beyond the client's certificate, which TLS itself demands
    `listen_addr = "${address}"`,
    `host_uuid = "${uuid}"`,
    ...keepaliveLines(keepalive),
    'log_outputs = "3:file:/var/log/libvirt/libvirtd.log"'
  ]
  if (limits !== 'stock') {
    lines.push(`max_client_requests = ${limits.maxClientRequests}`, `max_workers = ${limits.maxWorkers}`)
  }
  return lines.join('\n') + '\n'
}

function qemuConf({ address, keepalive }: HostFilesOptions): string {
  return [
    'user = "root"',
    'group = "root"',
    'security_driver = "none"',
    'dynamic_ownership = 0',
    'remember_owner = 0',
    'namespaces = []',
    'cgroup_controllers = []', // the hosts share one /sys/fs/cgroup and would clash there
    'stdio_handler = "file"', // no virtlogd here
    `migration_host = "${address}"`,
    `migration_address = "${address}"`,
    ...keepaliveLines(keepalive),
    'vnc_listen = "127.0.0.1"\n'
  ].join('\n')
}

function sshdConf({ address }: HostFilesOptions): string {
  return [
    `ListenAddress ${address}`,
    'HostKey /etc/libvirt/ssh_host_key',
    'AuthorizedKeysFile /etc/libvirt/authorized_keys',
    'PidFile none',
    'PermitRootLogin prohibit-password',
    'PasswordAuthentication no',
    'UsePAM no',
    'StrictModes no',
    'UseDNS no\n'
  ].join('\n')
}

/**
 * Accounts of the host: root, sshd's and, since libvirtd resolves it at start even where qemu.conf names another,
 * `libvirt-qemu`. Root's password is `*`, not `!`: sshd takes the latter for a locked account and lets no key in.
 */
const accounts = {
  passwd: [
    'root:x:0:0:root:/root:/bin/sh',
    'sshd:x:100:65534::/run/sshd:/usr/sbin/nologin',
    'libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin',
    'nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n'
  ],
  group: ['root:x:0:', 'kvm:x:101:', 'tty:x:5:', 'libvirt-qemu:x:64055:', 'nogroup:x:65534:\n'],
  shadow: ['root:*:19000:0:99999:7:::', 'sshd:!:19000::::::', 'libvirt-qemu:!:19000::::::', 'nobody:*:19000::::::\n']
}

async function placeCertificates({ name, address, directory, authority }: HostFilesOptions): Promise<void> {
  const leaf = await authority.issue(name, { names: `DNS:${name},IP:${address}`, usage: 'serverAuth,clientAuth' })
  const pki = join(directory, 'etc/pki')
  for (const place of ['CA', 'libvirt/private', 'qemu']) await mkdir(join(pki, place), { recursive: true })
  await copyFile(authority.ca, join(pki, 'CA/cacert.pem'))
  await copyFile(authority.ca, join(pki, 'qemu/ca-cert.pem'))
  for (const role of ['server', 'client']) {
    await copyFile(leaf.cert, join(pki, `libvirt/${role}cert.pem`))
    await copyFile(leaf.key, join(pki, `libvirt/private/${role}key.pem`))
    await copyFile(leaf.cert, join(pki, `qemu/${role}-cert.pem`))
    await copyFile(leaf.key, join(pki, `qemu/${role}-key.pem`))
  }
}

/** Makes a key pair without a passphrase; returns the public key's line. */
export async function createSshKey(path: string): Promise<string> {
  await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'taskomatic tests', '-f', path])
  return (await readFile(`${path}.pub`, 'utf8')).trim()
}

/** Writes the host's files; returns the public key of its sshd. */
export async function writeHostFiles(options: HostFilesOptions): Promise<{ sshHostKey: string }> {
  const { directory } = options
  const etc = join(directory, 'etc')
  for (const place of ['run/sshd', 'lib', 'cache', 'log', 'etc/libvirt']) {
    await mkdir(join(directory, place), { recursive: true })
  }
  await placeCertificates(options)
  await writeFile(join(etc, 'libvirt/libvirtd.conf'), libvirtdConf(options))
  await writeFile(join(etc, 'libvirt/qemu.conf'), qemuConf(options))
  await writeFile(join(etc, 'libvirt/sshd_config'), sshdConf(options))
  await writeFile(join(etc, 'libvirt/authorized_keys'), `${options.authorizedKey}\n`)
  await writeFile(join(etc, 'hosts'), options.hostsFile)
  for (const [file, lines] of Object.entries(accounts)) {
    await writeFile(join(etc, file), lines.join('\n'), { mode: file === 'shadow' ? 0o600 : 0o644 })
  }
  return { sshHostKey: await createSshKey(join(etc, 'libvirt/ssh_host_key')) }
}

/** libvirtd asks QEMU for four seconds what it can do, at its first start; the answers are good for every host here. */
export async function copyCapabilities(from: string, to: string): Promise<void> {
  await cp(from, to, { recursive: true, force: true, preserveTimestamps: true })
}
