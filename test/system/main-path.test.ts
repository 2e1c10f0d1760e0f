// The main path as an operator walks it: three real hosts, a server process, the command. What the command says is believed
// only where virsh on the hosts says so too.
// The shared directory is no network file system, so libvirt wants `--allow-unsafe` for migrations that a real one would not need.

import { existsSync } from 'node:fs'
import { copyFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { HostView, StoreView, VmView, VolumeView } from '../../src/api/fleet.ts'
import type { TaskSummary } from '../../src/api/task.ts'
import { describeWith } from '../harness/parts.ts'
import { createAuthority } from './certificates.ts'
import { bootImage } from './guest.ts'
import { startHosts, type Hosts, type TestHost } from './hosts.ts'
import { startTaskomatic, type Taskomatic } from './taskomatic.ts'

describeWith('real hosts', 'the main path', () => {
  let hosts: Hosts
  beforeAll(async () => {
    hosts = await startHosts({ count: 3 })
  }, 120_000)
  afterAll(() => hosts?.stop(), 60_000)

  /** What the real virsh says of a VM on a host, e.g. `running (booted)`; `absent` where it has none. */
  async function seen(host: string, vm: string): Promise<string> {
    const names = await hosts.virsh(host, 'list', '--all', '--name')
    return names.split('\n').includes(vm) ? hosts.virsh(host, 'domstate', '--reason', vm) : 'absent'
  }
  const whereabouts = async (vm: string): Promise<Record<string, string>> =>
    Object.fromEntries(
      await Promise.all(hosts.all.map(async ({ name }) => [name, await seen(name, vm)] as [string, string]))
    )

  describe('over unix sockets', () => {
    const peers = { h1: 'absent', h2: 'absent', h3: 'absent' }
    let server: Taskomatic
    beforeAll(async () => {
      server = await startTaskomatic()
    }, 120_000)
    afterAll(() => server?.stop(), 60_000)

    test('three hosts are added', async () => {
      for (const { name, uri, tlsUri } of hosts.all) await server.done('host', 'add', name, uri, '--peer-uri', tlsUri)
      const listed = await server.json<HostView[]>('host', 'list')
      expect(listed.map(({ name, uuid, connection }) => ({ name, uuid, connection }))).toEqual(
        hosts.all.map(({ name, uuid }) => ({ name, uuid, connection: 'up' }))
      )
    })

    test('a pool on each becomes one store, and finds the image that was copied into it', async () => {
      const target = join(hosts.shared, 'data')
      await server.done('pool', 'create', 'data', '--host', 'h1,h2,h3', '--target', target)
      for (const { name } of hosts.all) {
        expect(await hosts.virsh(name, 'pool-info', 'data')).toMatch(/State:\s+running[\s\S]*Autostart:\s+yes/)
        expect(await hosts.virsh(name, 'pool-dumpxml', 'data')).toContain(`<path>${target}</path>`)
      }
      await server.done('store', 'share', 'nfs1', 'data@h1', 'data@h2', 'data@h3')
      const [store] = (await server.json<StoreView[]>('store', 'list')).filter(({ name }) => name === 'nfs1')
      expect(store).toMatchObject({ shared: true, pools: { h1: { target }, h2: { target }, h3: { target } } })
      expect(await hosts.virsh('h2', 'vol-list', 'data')).toBe('') // the marker of the proof is gone

      await writeFile(join(target, 'boot.img'), bootImage())
      await server.done('pool', 'refresh', 'data@h1', 'data@h2', 'data@h3')
      const volumes = await server.json<VolumeView[]>('volume', 'list', '--store', 'nfs1')
      expect(volumes).toMatchObject([{ name: 'boot.img', path: join(target, 'boot.img'), capacityBytes: 1024 ** 2 }])
    })

    test('a VM is created with a copy of it and started', async () => {
      const disk = 'store=nfs1,from=nfs1/boot.img'
      await server.done('vm', 'create', 'web1', '--memory', '64MiB', '--vcpus', '1', '--host', 'h1', '--disk', disk)
      expect(await whereabouts('web1')).toEqual({ ...peers, h1: 'shut off (unknown)' })
      expect(await hosts.virsh('h1', 'domblklist', 'web1')).toContain(join(hosts.shared, 'data/web1.qcow2'))
      await server.done('vm', 'start', 'web1')
      expect(await whereabouts('web1')).toEqual({ ...peers, h1: 'running (booted)' })
    })

    const tookMs: number[] = []
    const clock = ({ startedAt, endedAt }: { startedAt: string | null; endedAt: string | null }): void => {
      tookMs.push(Date.parse(endedAt!) - Date.parse(startedAt!))
    }

    test('it moves h1 → h2 → h3 → h1', async () => {
      let from = 'h1'
      for (const to of ['h2', 'h3', 'h1']) {
        const task = await server.task('vm', 'migrate', 'web1', '--to', to, '--allow-unsafe')
        expect(task, JSON.stringify(task.error)).toMatchObject({ state: 'complete', result: { from, to } })
        expect(await whereabouts('web1')).toEqual({ ...peers, [to]: 'running (migrated)' })
        const vm = await server.json<VmView>('vm', 'show', 'web1')
        expect(vm).toMatchObject({ home: to, activeOn: to, power: 'running', elsewhere: {} })
        clock(task)
        from = to
      }
    })

    test('17 further moves are asked for at once, and each begins where the one before has ended', async () => {
      const moves = Array.from({ length: 17 }, (_, index) => ({
        action: 'vm.migrate',
        args: { vm: 'web1', to: `h${((index + 1) % 3) + 1}`, unsafe: true }
      }))
      const file = join(hosts.directory, 'moves.json')
      await writeFile(file, JSON.stringify({ onFailure: 'stop', tasks: moves }))
      const ended = await server.json<TaskSummary[]>('plan', 'submit', '--file', file, '--wait')
      expect(ended.map(({ state, note }) => ({ state, note }))).toEqual(
        moves.map(() => ({ state: 'complete', note: null }))
      )
      for (const [index, task] of ended.entries()) {
        clock(task)
        if (index > 0)
          expect(Date.parse(task.startedAt!)).toBeGreaterThanOrEqual(Date.parse(ended[index - 1]!.endedAt!))
      }
      expect(await whereabouts('web1')).toEqual({ ...peers, h3: 'running (migrated)' })
      const mean = tookMs.reduce((sum, ms) => sum + ms, 0) / tookMs.length
      console.log(`20 migrations in a row: mean ${Math.round(mean)} ms, longest ${Math.max(...tookMs)} ms`)
      expect(tookMs).toHaveLength(20)
    }, 180_000)

    test('it is stopped by its power button, and deleted with its volume alone', async () => {
      await server.done('vm', 'stop', 'web1')
      const home = (await server.json<VmView>('vm', 'show', 'web1')).home
      expect(await whereabouts('web1')).toEqual({ ...peers, [home]: 'shut off (shutdown)' })
      await server.done('vm', 'delete', 'web1', '--volumes', '--yes')
      expect(await whereabouts('web1')).toEqual(peers)
      expect(existsSync(join(hosts.shared, 'data/web1.qcow2'))).toBe(false)
      expect(await hosts.virsh(home, 'vol-list', 'data')).toMatch(/^ ?boot\.img\s+\S+$/)
      expect(await server.json('vm', 'list')).toEqual([])
      expect(await server.json<VolumeView[]>('volume', 'list')).toMatchObject([{ name: 'boot.img' }])
    })

    test('no task was missed by its event and found by the guard poll', async () => {
      expect(await server.metric('taskomatic_guard_poll_found_total')).toBe(0)
    })
  })

  // The manager's namespace is where the hosts' names resolve, as they do in a data centre.
  describe('over TLS with a client certificate, and over ssh', () => {
    let server: Taskomatic
    beforeAll(async () => {
      server = await startTaskomatic({ enter: (command, args) => hosts.asManager(command, args) })
    }, 120_000)
    afterAll(() => server?.stop(), 60_000)

    const tls = ({ tlsUri }: TestHost): string => `${tlsUri}?pkipath=${hosts.tls.directory}`
    const ssh = ({ name }: TestHost): string =>
      `qemu+ssh://root@${name}/system?keyfile=${hosts.ssh.key}&known_hosts=${hosts.ssh.knownHosts}`

    test.each([
      ['TLS', 'h1', tls],
      ['ssh', 'h2', ssh]
    ] as const)('over %s a VM is created, started, stopped and deleted', async (transport, host, uriOf) => {
      const pool = `data-${transport.toLowerCase()}`
      const target = join(hosts.shared, pool)
      const vm = `vm-${transport.toLowerCase()}`
      await server.done('host', 'add', host, uriOf(hosts.host(host)), '--peer-uri', hosts.host(host).tlsUri)
      await server.done('pool', 'create', `${pool}@${host}`, '--target', target)
      await writeFile(join(target, 'boot.img'), bootImage())
      await server.done('pool', 'refresh', `${pool}@${host}`)
      const disk = `store=${host}/${pool},from=${host}/${pool}/boot.img`
      await server.done('vm', 'create', vm, '--memory', '64MiB', '--vcpus', '1', '--host', host, '--disk', disk)
      expect(await seen(host, vm)).toBe('shut off (unknown)')
      await server.done('vm', 'start', vm)
      expect(await seen(host, vm)).toBe('running (booted)')
      await server.done('vm', 'stop', vm)
      expect(await seen(host, vm)).toBe('shut off (shutdown)')
      await server.done('vm', 'delete', vm, '--volumes', '--yes')
      expect(await seen(host, vm)).toBe('absent')
      expect(existsSync(join(target, `${vm}.qcow2`))).toBe(false)
    })

    test('a certificate of another authority is refused before anything is recorded', async () => {
      const directory = join(hosts.directory, 'stranger')
      const { cert, key } = await (
        await createAuthority(directory)
      ).issue('stranger', { names: 'DNS:stranger', usage: 'clientAuth' })
      await copyFile(hosts.tls.ca, join(directory, 'cacert.pem'))
      await copyFile(cert, join(directory, 'clientcert.pem'))
      await copyFile(key, join(directory, 'clientkey.pem'))
      const ending = await server.cli('host', 'add', 'h3', `${hosts.host('h3').tlsUri}?pkipath=${directory}`)
      expect(ending.code).not.toBe(0)
      expect(ending.stderr).toMatch(/no libvirtd answers at .*h3.*: TLS .* did not accept our certificate/)
      expect(ending.stderr).toContain('next: ')
      const listed = await server.json<HostView[]>('host', 'list')
      expect(listed.map(({ name }) => name)).toEqual(['h1', 'h2'])
    })
  })
})
