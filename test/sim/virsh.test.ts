// The real virsh as a client of simulated hosts: what it prints is what libvirt 9.0 with QEMU 7.2 made it print.

import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { diskXml, domainXml, sharedDisk, virsh, whyNoVirsh, withFleet } from './support.ts'

const skip = whyNoVirsh()
const scratch = mkdtempSync(join(tmpdir(), 'sim-virsh-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

function file(name: string, text: string): string {
  const path = join(scratch, name)
  writeFileSync(path, text)
  return path
}

describe.skipIf(skip !== undefined)(`virsh against a simulated host${skip ? ` (skipped: ${skip})` : ''}`, () => {
  test('a guest is defined, started, asked to shut down, and undefined', () =>
    withFleet({ shutdownMs: 0 }, async (fleet) => {
      const h1 = fleet.host('h1')
      const xml = file('life.xml', domainXml('life', { devices: diskXml(sharedDisk(fleet, 'life.raw')) }))
      expect(await virsh(h1, 'define', xml)).toEqual({ code: 0, out: `Domain 'life' defined from ${xml}` })
      expect((await virsh(h1, 'list', '--all')).out).toMatch(/ - {4}life {3}shut off/)
      expect(await virsh(h1, 'start', 'life')).toEqual({ code: 0, out: "Domain 'life' started" })
      expect(await virsh(h1, 'domstate', 'life', '--reason')).toEqual({ code: 0, out: 'running (booted)' })
      expect((await virsh(h1, 'dominfo', 'life')).out).toMatch(
        /State: +running\nCPU\(s\): +1\n[^]*Max memory: +65536 KiB/
      )
      const stopped = fleet.journal.next((entry) => entry.kind === 'stopped')
      expect((await virsh(h1, 'shutdown', 'life')).code).toBe(0)
      await stopped
      expect((await virsh(h1, 'domstate', 'life', '--reason')).out).toBe('shut off (shutdown)')
      expect(await virsh(h1, 'undefine', 'life')).toEqual({ code: 0, out: "Domain 'life' has been undefined" })
      expect((await virsh(h1, 'domstate', 'life')).code).toBe(1)
    }))

  test('what does not fit a guest’s state is refused in libvirt’s words', () =>
    withFleet({}, async (fleet) => {
      const h1 = fleet.host('h1')
      const refused = (command: string, why: string) => ({
        code: 1,
        out: `error: Failed to ${command} domain 'g'\nerror: ${why}`
      })
      await virsh(h1, 'define', file('g.xml', domainXml('g')))
      const off = 'Requested operation is not valid: domain is not running'
      for (const command of ['shutdown', 'destroy', 'suspend', 'resume', 'reboot'])
        expect(await virsh(h1, command, 'g')).toEqual(refused(command, off))
      await virsh(h1, 'start', 'g')
      expect(await virsh(h1, 'resume', 'g')).toEqual(
        refused('resume', 'Requested operation is not valid: domain is already running')
      )
      await virsh(h1, 'suspend', 'g')
      expect(await virsh(h1, 'shutdown', 'g')).toEqual(refused('shutdown', off))
      const { uuid } = h1.domainByName('g')!
      expect((await virsh(h1, 'define', file('g2.xml', domainXml('g')))).out).toContain(
        `domain 'g' already exists with uuid ${uuid}`
      )
      expect((await virsh(h1, 'define', file('g3.xml', domainXml('other', { uuid })))).out).toContain(
        `domain 'g' is already defined with uuid ${uuid}`
      )
    }))

  test('a running persistent guest becomes transient when it is undefined; a saved one is not undefined unasked', () =>
    withFleet({}, async (fleet) => {
      const h1 = fleet.host('h1')
      await virsh(h1, 'define', file('u.xml', domainXml('u')))
      await virsh(h1, 'start', 'u')
      await virsh(h1, 'managedsave', 'u')
      expect((await virsh(h1, 'domstate', 'u', '--reason')).out).toBe('shut off (saved)')
      expect((await virsh(h1, 'undefine', 'u')).out).toBe(
        'error: Refusing to undefine while domain managed save image exists'
      )
      await virsh(h1, 'start', 'u')
      expect((await virsh(h1, 'domstate', 'u', '--reason')).out).toBe('running (restored)')
      expect((await virsh(h1, 'undefine', 'u')).code).toBe(0)
      expect((await virsh(h1, 'dominfo', 'u')).out).toMatch(/Persistent: +no/)
      expect((await virsh(h1, 'autostart', 'u')).out).toContain('cannot set autostart for transient domain')
      await virsh(h1, 'destroy', 'u')
      expect((await virsh(h1, 'list', '--all')).out).not.toContain(' u ')
    }))

  test.each(['--p2p', ''])('a guest migrates to another host (%s)', (p2p) =>
    withFleet({}, async (fleet) => {
      const [h1, h2] = [fleet.host('h1'), fleet.host('h2')]
      await virsh(h1, 'define', file('m.xml', domainXml('m', { devices: diskXml(sharedDisk(fleet, 'm.raw')) })))
      await virsh(h1, 'start', 'm')
      const options = ['migrate', '--live', ...(p2p ? [p2p] : []), '--persistent', '--undefinesource', 'm', h2.uri]
      expect(await virsh(h1, ...options)).toEqual({ code: 0, out: '' })
      expect((await virsh(h2, 'domstate', 'm', '--reason')).out).toBe('running (migrated)')
      expect((await virsh(h2, 'dominfo', 'm')).out).toMatch(/Persistent: +yes/)
      expect((await virsh(h1, 'domstate', 'm')).code).toBe(1)
      expect(fleet.journal.twoWriters).toBe(0)
    })
  )

  test('events come in QEMU’s order', () =>
    withFleet({ shutdownMs: 0 }, async (fleet) => {
      const h1 = fleet.host('h1')
      const events = spawn('virsh', ['-c', h1.uri, 'event', '--loop', '--all'], {
        stdio: ['ignore', 'pipe', 'inherit']
      })
      let seen = ''
      const { promise: undefinedSeen, resolve } = Promise.withResolvers<void>()
      events.stdout.on('data', (chunk: Buffer) => {
        seen += String(chunk)
        if (seen.includes('Undefined')) resolve()
      })
      const xml = file('e.xml', domainXml('e'))
      // virsh registers for everything before it says anything: a first definition that it reports shows that it listens.
      const listening = (): boolean => [...h1.sessions].some((session) => 'registrations' in session)
      while (!listening() || !seen.includes('Defined')) {
        await virsh(
          h1,
          'define',
          file('probe.xml', domainXml('probe', { uuid: '00000000-0000-4000-8000-00000000000a' }))
        )
      }
      seen = ''
      for (const command of [
        ['define', xml],
        ['start', 'e'],
        ['suspend', 'e'],
        ['resume', 'e'],
        ['destroy', 'e'],
        ['undefine', 'e']
      ])
        await virsh(h1, ...command)
      await undefinedSeen
      events.kill()
      const words = [...seen.matchAll(/'lifecycle' for domain 'e': (.*)/g)].map(([, word]) => word)
      expect(words).toEqual([
        'Defined Added',
        'Resumed Unpaused',
        'Started Booted',
        'Suspended Paused',
        'Resumed Unpaused',
        'Shutdown Finished after host request',
        'Stopped Destroyed',
        'Undefined Removed'
      ])
    }))

  test('pools and volumes are made, copied, resized, filled, read and deleted', () =>
    withFleet({}, async (fleet) => {
      const h1 = fleet.host('h1')
      const refused = async (why: string, ...args: string[]): Promise<void> => {
        const { code, out } = await virsh(h1, ...args)
        expect({ code, last: out.split('\n').at(-1) }).toEqual({ code: 1, last: `error: ${why}` })
      }
      await virsh(h1, 'pool-define-as', 'p', 'dir', '--target', '/pool')
      await refused("cannot open directory '/pool': No such file or directory", 'pool-start', 'p')
      await virsh(h1, 'pool-build', 'p')
      await virsh(h1, 'pool-start', 'p')
      await refused("Requested operation is not valid: storage pool 'p' is already active", 'pool-start', 'p')
      await refused(
        "operation failed: Storage source conflict with pool: 'p'",
        'pool-define-as',
        'q',
        'dir',
        '--target',
        '/pool'
      )
      await virsh(h1, 'vol-create-as', 'p', 'a.raw', '10M', '--format', 'raw')
      await refused("storage volume 'a.raw' exists already", 'vol-create-as', 'p', 'a.raw', '1M')
      expect((await virsh(h1, 'vol-clone', 'a.raw', 'b.raw', 'p')).out).toBe('Vol b.raw cloned from a.raw')
      expect((await virsh(h1, 'vol-list', 'p', '--details')).out).toMatch(
        / b.raw {3}\/pool\/b.raw {3}file {3}10.00 MiB {3}10.00 MiB/
      )
      await virsh(h1, 'vol-resize', 'a.raw', '20M', 'p')
      expect((await virsh(h1, 'vol-info', 'a.raw', 'p')).out).toMatch(/Capacity: +20.00 MiB/)
      await refused(
        "invalid argument: can't shrink capacity below existing allocation",
        'vol-resize',
        'a.raw',
        '5M',
        'p'
      )
      const given = file('bytes', 'what was written'.repeat(1000))
      const back = join(scratch, 'back')
      await virsh(h1, 'vol-upload', 'a.raw', given, 'p')
      await virsh(h1, 'vol-download', 'a.raw', back, '--pool', 'p', '--length', '16000')
      expect(readFileSync(back, 'utf8')).toBe('what was written'.repeat(1000))
      await refused("Requested operation is not valid: storage pool 'p' is still active", 'pool-undefine', 'p')
      await virsh(h1, 'vol-delete', 'b.raw', 'p')
      await virsh(h1, 'pool-destroy', 'p')
      await refused("failed to remove pool '/pool': Directory not empty", 'pool-delete', 'p')
      expect((await virsh(h1, 'pool-undefine', 'p')).out).toBe('Pool p has been undefined')
    }))

  test('a host tells its size and what it can do', () =>
    withFleet({ memoryMiB: 1024, cpus: 4 }, async (fleet) => {
      const h1 = fleet.host('h1')
      expect((await virsh(h1, 'nodeinfo')).out).toMatch(/CPU\(s\): +4\n[^]*Memory size: +1048576 KiB/)
      expect((await virsh(h1, 'capabilities')).out).toContain(`<uuid>${h1.uuid}</uuid>`)
      expect((await virsh(h1, 'net-list')).out).toMatch(/default +active +yes +yes/)
    }))
})
