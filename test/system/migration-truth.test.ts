// What real libvirt and QEMU leave behind when a migration is broken, and that the action tells it right: each outcome is read
// off both hosts by virsh as well. Hosts that fall silent are fault-matrix.test.ts.

import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmDelete } from '../../src/actions/vm-delete.ts'
import { vmMigrate } from '../../src/actions/vm-migrate.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import { HostConnections } from '../../src/host/connections.ts'
import { AnyStage, errorIn, textOf, type Ran } from '../actions/stage.ts'
import { describeWith } from '../harness/parts.ts'
import { bootImage, type GuestKind } from './guest.ts'
import { startHosts, type Hosts } from './hosts.ts'

describeWith('real hosts', 'a migration that goes wrong', () => {
  let hosts: Hosts
  let connections: HostConnections
  let stage: AnyStage
  beforeAll(async () => {
    hosts = await startHosts({ count: 2 })
    connections = new HostConnections({ firstRetryMs: 50, lastRetryMs: 200 })
    stage = new AnyStage(connections)
    const known = hosts.all.map(({ name, uuid, uri, tlsUri }) => ({
      name,
      uuid,
      controlUri: uri,
      peerUri: tlsUri,
      migrationUri: null
    }))
    await stage.prepare(known, hosts.shared)
  }, 120_000)
  afterAll(async () => {
    await connections?.stop()
    await hosts?.stop()
  }, 60_000)

  let uuid = ''
  afterEach(async () => {
    await stage.relist()
    if (stage.memory.facts(`vm/${uuid}`)) await stage.done(vmDelete, { vm: uuid, force: true, volumes: true })
  }, 60_000)

  const dirty: GuestKind = { dirtyMiB: 48 }
  const unsafe = { to: 'h2', unsafe: true }
  /** A dirty guest under this bandwidth never converges. */
  const endless = { ...unsafe, bandwidthMiBps: 10 }

  async function started(kind: GuestKind): Promise<void> {
    await writeFile(join(hosts.shared, 'boot.img'), bootImage(kind))
    for (const { name } of hosts.all) await connections.host(name).refreshPool('nfs1')
    await stage.relist()
    const disks = [{ store: 'nfs1', from: 'nfs1/boot.img', format: 'raw' }]
    ;({ uuid } = {
      uuid: textOf((await stage.done(vmCreate, { name: 'web1', memoryMiB: 96, host: 'h1', disks }))['uuid'])
    })
    await stage.done(vmStart, { vm: uuid })
  }

  const seen = async (host: string): Promise<string> => {
    const names = await hosts.virsh(host, 'list', '--all', '--name')
    return names.split('\n').includes('web1') ? hosts.virsh(host, 'domstate', '--reason', 'web1') : 'absent'
  }

  /** The target waits for memory, and the source sends it. */
  async function underWay(): Promise<void> {
    await expect
      .poll(async () => (await connections.host('h1').vmJob(uuid))?.processedBytes ?? 0, { timeout: 15_000 })
      .toBeGreaterThan(0)
    expect(await seen('h2')).toMatch(/^paused/)
  }

  const told = (ran: Ran) => JSON.stringify({ outcome: ran.outcome, steps: ran.steps, logs: ran.logs })

  test('a good one is complete, and cancelled ones leave the guest where it was', async () => {
    await started(dirty)
    const move = stage.task(vmMigrate, { vm: uuid, ...endless })
    const ran = move.run()
    await underWay()
    const asked = performance.now()
    move.cancel()
    expect((await ran).outcome, told(await ran)).toMatchObject({ outcome: 'cancelled' })
    console.log(`cancelled within ${Math.round(performance.now() - asked)} ms`)
    expect(await seen('h1')).toMatch(/^running/)
    expect(await seen('h2')).toBe('absent')
    expect((await ran).progress.length).toBeGreaterThan(0)
    const good = await stage.run(vmMigrate, { vm: uuid, ...unsafe, postCopy: true })
    expect(good.outcome, told(good)).toMatchObject({ outcome: 'complete', result: { from: 'h1', to: 'h2' } })
    expect(await seen('h2')).toBe('running (migrated)')
    expect(await seen('h1')).toBe('absent')
  }, 60_000)

  test('one that never converges is given up at its deadline', async () => {
    await started(dirty)
    const ran = await stage.run(vmMigrate, { vm: uuid, ...endless, deadlineSeconds: 3 })
    expect(errorIn(ran), told(ran)).toMatchObject({ code: 'deadline' })
    expect(await seen('h1')).toMatch(/^running/)
    expect(await seen('h2')).toBe('absent')
  }, 60_000)

  test('without shared storage that libvirt knows as safe it is refused with its reason', async () => {
    await started('idle')
    const ran = await stage.run(vmMigrate, { vm: uuid, to: 'h2' })
    expect(errorIn(ran), told(ran)).toMatchObject({
      code: 'libvirt_migrate_unsafe',
      step: 'migrate',
      details: { libvirt: { code: 81 } }
    })
    expect(await seen('h1')).toBe('running (booted)')
  }, 60_000)

  test("the source's libvirtd killed in the middle: nothing moved, and it is said", async () => {
    await started(dirty)
    const ran = stage.run(vmMigrate, { vm: uuid, ...endless })
    await underWay()
    await hosts.restartLibvirtd('h1', 'KILL')
    const after = await ran
    expect(after.outcome, told(after)).toMatchObject({
      outcome: 'failed',
      error: { code: 'host_unknown_outcome', message: expect.stringContaining('web1 stays on h1') }
    })
    expect(await seen('h1')).toMatch(/^running/)
    await expect.poll(() => seen('h2'), { timeout: 15_000 }).toBe('absent')
    const again = await stage.run(vmMigrate, { vm: uuid, ...unsafe, postCopy: true })
    expect(again.outcome, told(again)).toMatchObject({ outcome: 'complete' })
  }, 90_000)
})
