// What an operator is told when things go wrong on real hosts, and what became of it: through the command alone, with virsh
// as the witness.

import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { HostView, VmView } from '../../src/api/fleet.ts'
import type { TaskView, Why } from '../../src/api/task.ts'
import { describeWith } from '../harness/parts.ts'
import { eventually } from './eventually.ts'
import { bootImage } from './guest.ts'
import { startHosts, type Hosts } from './hosts.ts'
import { startTaskomatic, type Taskomatic } from './taskomatic.ts'

describeWith('real hosts', 'when things go wrong', () => {
  let hosts: Hosts
  let server: Taskomatic
  beforeAll(async () => {
    ;[hosts, server] = await Promise.all([startHosts({ count: 2 }), startTaskomatic()])
    for (const { name, uri, tlsUri } of hosts.all) await server.done('host', 'add', name, uri, '--peer-uri', tlsUri)
    await server.done('pool', 'create', 'data', '--host', 'h1,h2', '--target', hosts.shared)
    await server.done('store', 'share', 'nfs1', 'data@h1', 'data@h2')
    await writeFile(join(hosts.shared, 'idle.img'), bootImage())
    await writeFile(join(hosts.shared, 'dirty.img'), bootImage({ dirtyMiB: 48 }))
    await server.done('pool', 'refresh', 'data@h1', 'data@h2')
    for (const name of ['idle', 'dirty']) {
      const disk = `store=nfs1,from=nfs1/${name}.img`
      await server.done('vm', 'create', name, '--memory', '96MiB', '--host', 'h1', '--disk', disk)
      await server.done('vm', 'start', name)
    }
  }, 120_000)
  afterAll(() => Promise.all([server?.stop(), hosts?.stop()]), 60_000)

  const seen = async (host: string, vm: string): Promise<string> => {
    const names = await hosts.virsh(host, 'list', '--all', '--name')
    return names.split('\n').includes(vm) ? hosts.virsh(host, 'domstate', '--reason', vm) : 'absent'
  }
  const listed = async (name: string): Promise<VmView | undefined> =>
    (await server.json<VmView[]>('vm', 'list')).find((vm) => vm.name === name)

  test('a start with a missing disk fails with what libvirt said, where, and what to do next', async () => {
    await server.done('vm', 'create', 'lost', '--memory', '64MiB', '--host', 'h1', '--disk', 'size=1MiB,store=nfs1')
    const disk = join(hosts.shared, 'lost.qcow2')
    await rm(disk)

    const ending = await server.cli('vm', 'start', 'lost', '--wait')
    expect(ending.code).toBe(3)
    const said = [
      `h1 refused: Cannot access storage file '${disk}'`,
      '(libvirt_system_error)',
      'while: start',
      'next: check that the paths in the message exist'
    ]
    for (const part of said) expect(ending.stderr).toContain(part)

    const id = /task (\d+)/.exec(ending.stderr)![1]!
    expect(await server.json<TaskView>('task', 'show', id)).toMatchObject({
      state: 'failed',
      error: {
        code: 'libvirt_system_error',
        step: 'start',
        details: {
          host: 'h1',
          libvirt: { code: 38, codeName: 'SYSTEM_ERROR', message: expect.stringContaining(disk) }
        }
      }
    })
    const shown = await server.cli('task', 'show', id)
    expect(shown.code).toBe(0)
    for (const part of [...said, '"code":38', '"domainName":"']) expect(shown.stdout).toContain(part)
    const why = await server.cli('task', 'why', id)
    expect(why.stdout).toContain(`It failed: h1 refused: Cannot access storage file '${disk}'`)
    expect(await seen('h1', 'lost')).toMatch(/^shut off/)
    await server.done('vm', 'delete', 'lost', '--volumes', '--yes')
  })

  test('a migration that never converges holds the VM, which says why others wait; cancelled, it stays at the source', async () => {
    const migrate = ['vm', 'migrate', 'dirty', '--to', 'h2', '--allow-unsafe', '--bandwidth', '10MiB']
    const migration = await server.submit(...migrate)
    await eventually(async () => expect(await seen('h2', 'dirty')).toMatch(/^paused/))
    await eventually(async () =>
      expect(await server.json<TaskView>('task', 'show', String(migration))).toMatchObject({
        state: 'running',
        progress: { unit: 'bytes' }
      })
    )
    const stop = await server.submit('vm', 'stop', 'dirty')

    const { uuid } = (await listed('dirty'))!
    const why = await server.json<Why>('task', 'why', String(stop))
    expect(why).toMatchObject({ state: 'waiting', reasons: [{ kind: 'claim', task: { id: migration } }] })
    const told = (await server.cli('task', 'why', String(stop))).stdout
    expect(told).toContain(`task ${migration} (running), Migrate dirty to h2, holds VM dirty (vm/${uuid}) exclusive`)
    expect(told).toContain(`ends: the end of task ${migration}`)

    const asked = performance.now()
    const cancelled = await server.cli('task', 'cancel', String(migration), '--wait')
    expect(cancelled.code, cancelled.stderr).toBe(6)
    console.log(`a cancelled migration has ended after ${Math.round(performance.now() - asked)} ms`)
    const ended = await server.json<TaskView>('task', 'show', String(migration))
    expect(ended).toMatchObject({
      state: 'cancelled',
      error: { message: expect.stringContaining('dirty stays on h1') }
    })
    expect(await seen('h2', 'dirty')).toBe('absent')

    // What waited for it goes on, where the VM has stayed.
    const waited = await server.cli('task', 'wait', String(stop))
    expect(waited.code, waited.stderr).toBe(0)
    expect(await seen('h1', 'dirty')).toBe('shut off (shutdown)')
  })

  test('what virsh does behind our back is listed within a second or so', async () => {
    /** Does it and tells how long the inventory took to see it. */
    const change = async (words: readonly string[], power: string): Promise<number> => {
      const begun = Date.now()
      await hosts.virsh('h1', ...words)
      const virshMs = Date.now() - begun
      const vm = await eventually(async () => {
        const found = await listed('idle')
        expect(found).toMatchObject({ power })
        return found!
      })
      // The event comes before virsh has its answer, as often as not.
      const lateMs = Date.parse(vm.observedAt!) - begun - virshMs
      expect(lateMs).toBeLessThan(2000)
      return lateMs
    }
    const lateMs = [
      await change(['suspend', 'idle'], 'paused'),
      await change(['resume', 'idle'], 'running'),
      await change(['destroy', 'idle'], 'off'),
      await change(['start', 'idle'], 'running')
    ]
    console.log(`seen after virsh had its answer: ${lateMs.join(', ')} ms`)

    const xml = (await hosts.virsh('h1', 'dumpxml', '--inactive', 'idle')).replace(/<uuid>.*<\/uuid>/, '')
    await hosts.define('h1', xml.replace('<name>idle</name>', '<name>stranger</name>'))
    await eventually(async () => expect(await listed('stranger')).toMatchObject({ home: 'h1', power: 'off' }))
    await hosts.virsh('h1', 'undefine', 'stranger')
    await eventually(async () => expect(await listed('stranger')).toBeUndefined())
  })

  test('a libvirtd that is killed is connected to again, and what happened meanwhile is listed', async () => {
    const connection = async (): Promise<string> => (await server.json<HostView>('host', 'show', 'h1')).connection
    expect(await listed('idle')).toMatchObject({ power: 'running', activeOn: 'h1' })
    // Nobody can hear of the guest's end: the daemon that could have told stands still, and is killed.
    await hosts.signalLibvirtd('h1', 'STOP')
    await hosts.signalGuest('h1', 'idle', 'KILL')
    const begun = performance.now()
    await hosts.restartLibvirtd('h1', 'KILL')
    await eventually(async () => {
      expect(await connection()).toBe('up')
      expect(await listed('idle')).toMatchObject({ power: 'off', activeOn: null })
    }, 30_000)
    console.log(`the fleet is known again ${Math.round(performance.now() - begun)} ms after the kill`)
    // Its events are heard again, too.
    await hosts.virsh('h1', 'start', 'idle')
    await eventually(async () => expect(await listed('idle')).toMatchObject({ power: 'running', activeOn: 'h1' }))
    await server.done('vm', 'stop', 'idle')
    expect(await seen('h1', 'idle')).toBe('shut off (shutdown)')
  })
})
