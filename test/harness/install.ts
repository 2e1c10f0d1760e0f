// Brings Debian packages that the system tests need and the machine lacks. Only as root on Debian or a child of it, only
// what is missing, nothing recommended, and without starting any of the services that the packages contain.

import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { installLine, missingPackages } from './parts.ts'

// Asked by every package before it starts a service; 101 forbids it. https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt
const startPolicy = '/usr/sbin/policy-rc.d'

/** Installs what is missing, telling on stdout what it does. What cannot be installed stays missing: tests say so. */
export function installMissing(): void {
  const packages = missingPackages()
  if (packages.length === 0) return console.log('the system tests have all that they need')
  if (process.platform !== 'linux' || process.getuid?.() !== 0 || !isDebian()) {
    return console.log(`not installing ${packages.join(', ')}: that takes root on Debian`)
  }
  console.log(`installing for the system tests, without starting any service: ${packages.join(' ')}`)
  console.log(`  apt-get update && ${installLine(packages)}`)
  const forbidStart = !existsSync(startPolicy)
  if (forbidStart) writeFileSync(startPolicy, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  try {
    aptGet('update')
    aptGet('install', '-y', '--no-install-recommends', ...packages)
  } catch (error) {
    console.error(error instanceof Error ? error.message : error)
  } finally {
    if (forbidStart) rmSync(startPolicy, { force: true })
  }
}

function isDebian(): boolean {
  const release = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : ''
  return /^ID(_LIKE)?=.*debian/m.test(release)
}

/** Quiet when all goes well. */
function aptGet(...args: string[]): void {
  const { status, stdout, stderr } = spawnSync('apt-get', ['-q', ...args], {
    encoding: 'utf8',
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' },
    timeout: 10 * 60_000,
    maxBuffer: 64 * 1024 * 1024
  })
  if (status !== 0) throw new Error(`apt-get ${args.join(' ')} failed:\n${`${stdout}${stderr}`.trim().slice(-2000)}`)
}
