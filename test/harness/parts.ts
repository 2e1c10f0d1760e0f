// What the tests need beyond Node and npm: programs of Debian packages, root, namespaces. Says what is missing and
// which line brings it; installing is the runner's business (test/harness/run.ts).

import { execFileSync } from 'node:child_process'
import { globSync } from 'node:fs'
import { describe } from 'vitest'

type Part = { package: string; for: Use; files: string }
type Use = 'real hosts' | 'PostgreSQL 15' | 'disc images'

const parts: readonly Part[] = [
  { package: 'libvirt-daemon', for: 'real hosts', files: '/usr/sbin/libvirtd' },
  { package: 'libvirt-daemon-driver-qemu', for: 'real hosts', files: '/usr/lib/*/libvirt/*/libvirt_driver_qemu.so' },
  {
    package: 'libvirt-daemon-driver-storage-rbd',
    for: 'real hosts',
    files: '/usr/lib/*/libvirt/storage-backend/libvirt_storage_backend_rbd.so'
  },
  { package: 'libvirt-clients', for: 'real hosts', files: '/usr/bin/virsh' },
  { package: 'qemu-system-x86', for: 'real hosts', files: '/usr/bin/qemu-system-x86_64' },
  { package: 'qemu-utils', for: 'real hosts', files: '/usr/bin/qemu-img' },
  { package: 'iproute2', for: 'real hosts', files: '/usr/sbin/ip,/sbin/ip' },
  { package: 'openssh-server', for: 'real hosts', files: '/usr/sbin/sshd' },
  { package: 'openssh-client', for: 'real hosts', files: '/usr/bin/ssh-keygen' },
  { package: 'openssl', for: 'real hosts', files: '/usr/bin/openssl' },
  { package: 'util-linux', for: 'real hosts', files: '/usr/bin/setpriv' },
  { package: 'postgresql-15', for: 'PostgreSQL 15', files: '/usr/lib/postgresql/15/bin/postgres' },
  { package: 'genisoimage', for: 'disc images', files: '/usr/bin/isoinfo' }
]

/** Packages that are missing here, in the order of the table. */
export function missingPackages(use?: Use): string[] {
  const wanted = parts.filter((part) => !use || part.for === use)
  return wanted.filter((part) => globSync(part.files.split(',')).length === 0).map((part) => part.package)
}

/** The line that an operator of Debian types. */
export function installLine(packages: readonly string[]): string {
  return `apt-get install -y --no-install-recommends ${packages.join(' ')}`
}

/** Why tests that need `use` cannot run here, and what to type; undefined when they can. */
export function obstacle(use: Use): string | undefined {
  const hosts = use === 'real hosts'
  if (hosts && process.platform !== 'linux') return `${use}: needs Linux, this is ${process.platform}`
  const packages = missingPackages(use)
  const reasons: string[] = []
  if (packages.length > 0) reasons.push(`missing: ${installLine(packages)}`)
  if (hosts && process.getuid?.() !== 0) reasons.push('needs root: sudo npm test')
  else if (hosts && packages.length === 0 && !mayUnshare()) {
    reasons.push('this root may not make namespaces: start the container with --privileged')
  }
  return reasons.length > 0 ? `${use}: ${reasons.join('; ')}` : undefined
}

/** Every obstacle on this machine. */
export function obstacles(): string[] {
  return [...new Set(parts.map((part) => part.for))].map(obstacle).filter((reason) => reason !== undefined)
}

let namespaces: boolean | undefined
function mayUnshare(): boolean {
  if (namespaces === undefined) {
    try {
      execFileSync('unshare', ['--mount', '--net', '--pid', '--fork', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt'], {
        stdio: 'ignore'
      })
      namespaces = true
    } catch {
      namespaces = false
    }
  }
  return namespaces
}

/** A suite that is skipped where `use` cannot be had; the runner tells why, and with CI=true counts it as failed. */
export function describeWith(use: Use, name: string, body: () => void): void {
  if (obstacle(use)) describe.skip(name, body)
  else describe(name, body)
}
