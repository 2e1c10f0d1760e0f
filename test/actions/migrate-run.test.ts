// Migrations between simulated hosts: what both hosts say decides, whatever the calls answered.
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmMigrate } from '../../src/actions/vm-migrate.ts'
import { vmPause } from '../../src/actions/vm-pause.ts'
import { vmResume } from '../../src/actions/vm-resume.ts'
import { vmSnapshotCreate } from '../../src/actions/vm-snapshot-create.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import { vmStop } from '../../src/actions/vm-stop.ts'
import { errorIn, textOf, withStage, type Stage } from './stage.ts'

async function running(stage: Stage, name = 'web1'): Promise<string> {
  const { uuid } = await stage.done(vmCreate, {
    name,
    memoryMiB: 64,
    host: 'h1',
    disks: [{ store: 'nfs1', sizeMiB: 8 }]
  })
  await stage.done(vmStart, { vm: uuid })
  return textOf(uuid)
}

const seen = async (stage: Stage, host: string, uuid: string) => {
  const vm = await stage.hosts.host(host).vm(uuid)
  return vm ? `${vm.power} (${vm.reason})` : 'absent'
}

const never = (stage: Stage, uuid: string) => {
  const domain = stage.fleet.host('h1').domains.get(uuid)
  if (domain) domain.guest.dirtyMiBps = 1_000_000
}

const slow = { migrationMs: 600 }

test('a VM goes round three hosts, and is defined only where it runs', () =>
  withStage({ hosts: 3 }, async (stage) => {
    const uuid = await running(stage)
    for (const [from, to] of [
      ['h1', 'h2'],
      ['h2', 'h3'],
      ['h3', 'h1']
    ] as const) {
      expect(await stage.done(vmMigrate, { vm: uuid, to })).toEqual({ from, to, power: 'running' })
      expect(await seen(stage, to, uuid)).toBe('running (migrated)')
      expect(await seen(stage, from, uuid)).toBe('absent')
      expect(stage.memory.facts(`vm/${uuid}`)).toMatchObject({ home: to, activeOn: to, elsewhere: {} })
    }
    expect(stage.fleet.journal.twoWriters).toBe(0)
  }))

test('a second run of the same task finds it done', () =>
  withStage({}, async (stage) => {
    const uuid = await running(stage)
    const move = stage.task(vmMigrate, { vm: uuid, to: 'h2' })
    expect((await move.run()).outcome.outcome).toBe('complete')
    expect((await move.run()).outcome).toMatchObject({ outcome: 'complete', result: { to: 'h2' } })
    expect(stage.fleet.journal.entries({ kind: 'migrated', subject: uuid })).toHaveLength(1)
  }))

test('a paused VM stays paused where it arrives', () =>
  withStage({}, async (stage) => {
    const uuid = await running(stage)
    await stage.done(vmPause, { vm: uuid })
    expect(await stage.done(vmMigrate, { vm: uuid, to: 'h2' })).toMatchObject({ to: 'h2', power: 'paused' })
    await stage.done(vmResume, { vm: uuid })
    expect(await seen(stage, 'h2', uuid)).toMatch(/^running/)
  }))

test('progress is told while the memory is copied', () =>
  withStage({ migrationMs: 1200 }, async (stage) => {
    const uuid = await running(stage)
    const { outcome, progress, steps } = await stage.run(vmMigrate, { vm: uuid, to: 'h2' })
    expect(outcome.outcome).toBe('complete')
    expect(progress.length).toBeGreaterThan(0)
    expect(progress.every(({ done, total }) => done > 0 && total === 64 * 1024 ** 2)).toBe(true)
    expect(steps).toEqual([
      'look at both hosts',
      'ask the target whether it would run it',
      'migrate',
      'look at both hosts again',
      'look at the target'
    ])
  }))

test('cancelled, it aborts the job and the VM stays where it was', () =>
  withStage({ migrationMs: 10_000 }, async (stage) => {
    const uuid = await running(stage)
    const move = stage.task(vmMigrate, { vm: uuid, to: 'h2' })
    const ran = move.run()
    await stage.fleet.journal.next(({ kind, host }) => kind === 'started' && host === 'h2')
    move.cancel()
    expect((await ran).outcome).toMatchObject({
      outcome: 'cancelled',
      error: { message: expect.stringContaining('web1 stays on h1') }
    })
    expect(await seen(stage, 'h1', uuid)).toMatch(/^running/)
    expect(await seen(stage, 'h2', uuid)).toBe('absent')
  }))

test('that never converges is given up at its deadline', () =>
  withStage({ migrationMs: 50 }, async (stage) => {
    const uuid = await running(stage)
    never(stage, uuid)
    const error = errorIn(await stage.run(vmMigrate, { vm: uuid, to: 'h2', deadlineSeconds: 1 }))
    expect(error).toMatchObject({ code: 'deadline', next: expect.stringContaining('--post-copy') })
    expect(await seen(stage, 'h1', uuid)).toMatch(/^running/)
    expect(await seen(stage, 'h2', uuid)).toBe('absent')
  }))

test('that never converges ends when it may switch over first', () =>
  withStage({ migrationMs: 50 }, async (stage) => {
    const uuid = await running(stage)
    never(stage, uuid)
    expect(await stage.done(vmMigrate, { vm: uuid, to: 'h2', postCopy: true, deadlineSeconds: 20 })).toMatchObject({
      to: 'h2'
    })
    expect(await seen(stage, 'h2', uuid)).toBe('running (migrated)')
  }))

test('a link that is cut while the memory is copied leaves the VM at the source, and says why', () =>
  withStage(slow, async (stage) => {
    const uuid = await running(stage)
    const ran = stage.run(vmMigrate, { vm: uuid, to: 'h2' })
    await stage.fleet.journal.next(({ kind, host }) => kind === 'started' && host === 'h2')
    stage.fleet.partition('h1', 'h2')
    const { outcome } = await ran
    expect(outcome).toMatchObject({
      outcome: 'failed',
      error: { code: expect.stringMatching(/^libvirt_/), message: expect.stringContaining('web1 stays on h1') }
    })
    expect(await seen(stage, 'h1', uuid)).toMatch(/^running/)
    expect(await seen(stage, 'h2', uuid)).toBe('absent')
  }))

test('an answer that is lost just after the target resumed ends with one copy, at the target', () =>
  withStage({}, async (stage) => {
    const uuid = await running(stage)
    stage.fleet.host('h2').faults.add({ on: 'DOMAIN_MIGRATE_FINISH3_PARAMS', fault: { kind: 'lose_reply' }, times: 1 })
    const { outcome, steps } = await stage.run(vmMigrate, { vm: uuid, to: 'h2' })
    expect(outcome).toMatchObject({ outcome: 'complete', result: { from: 'h1', to: 'h2' } })
    expect(steps).toEqual(
      expect.arrayContaining(['remove the copy at the source', 'remove the definition at the source'])
    )
    expect(await seen(stage, 'h2', uuid)).toBe('running (migrated)')
    expect(await seen(stage, 'h1', uuid)).toBe('absent')
    expect(stage.fleet.journal.twoWriters).toBe(0)
  }))

test('whose reply never comes is told by looking at both hosts', () =>
  withStage(slow, async (stage) => {
    const uuid = await running(stage)
    stage.fleet.host('h1').faults.add({ on: 'DOMAIN_MIGRATE_PERFORM3_PARAMS', fault: { kind: 'drop_after' }, times: 1 })
    expect((await stage.run(vmMigrate, { vm: uuid, to: 'h2' })).outcome).toMatchObject({ outcome: 'complete' })
    expect(stage.fleet.journal.entries({ kind: 'migrated', subject: uuid })).toHaveLength(1)
  }))

test('that an earlier attempt began is joined, not begun again', () =>
  withStage({ migrationMs: 1500 }, async (stage) => {
    const uuid = await running(stage)
    const peerUri = stage.fleet.uris['h2'] ?? ''
    const options = {
      peerUri,
      migrationUri: null,
      live: true,
      persistent: true,
      tls: false,
      unsafe: false,
      autoConverge: false,
      postCopy: false,
      copyStorage: false,
      bandwidthMiBps: null
    }
    // As a dispatcher would have left it that was killed: the source carries it on.
    const carried = stage.hosts.host('h1').migrateVm(uuid, options)
    await stage.fleet.journal.next(({ kind, host }) => kind === 'started' && host === 'h2')
    await stage.relist()
    await stage.observer.bindWhereabouts(uuid, 'h2')
    const move = stage.task(vmMigrate, { vm: uuid, to: 'h2' })
    expect(await move.probe()).toMatchObject({ happened: 'no' })
    const { outcome, steps } = await move.run()
    expect(outcome).toMatchObject({ outcome: 'complete', result: { to: 'h2' } })
    expect(steps).not.toContain('migrate')
    await carried
    expect(stage.fleet.journal.entries({ kind: 'migrated', subject: uuid })).toHaveLength(1)
    expect(await move.probe()).toMatchObject({ happened: 'yes' })
  }))

test('with a silent target nobody knows: uncertain, and complete once it answers', () =>
  withStage({ migrationMs: 300 }, async (stage) => {
    const uuid = await running(stage)
    const move = stage.task(vmMigrate, { vm: uuid, to: 'h2' })
    const ran = move.run()
    await stage.fleet.journal.next(({ kind, host }) => kind === 'started' && host === 'h2')
    await stage.fleet.host('h2').server.stop()
    expect((await ran).outcome).toMatchObject({ outcome: 'uncertain', error: { code: 'migration_unclear' } })
    expect(await move.probe()).toMatchObject({ happened: 'unknown' })
    await stage.fleet.host('h2').server.start()
    await stage.reachable('h2')
    await stage.relist()
    expect(await move.probe()).toMatchObject({ happened: 'yes', result: { to: 'h2' } })
  }))

test('a target whose daemon restarts at the wrong moment is waited for', () =>
  withStage({ migrationMs: 300 }, async (stage) => {
    const uuid = await running(stage)
    const ran = stage.run(vmMigrate, { vm: uuid, to: 'h2' })
    await stage.fleet.journal.next(({ kind, host }) => kind === 'started' && host === 'h2')
    await stage.fleet.host('h2').server.stop()
    await stage.fleet.journal.next(({ kind, host }) => kind === 'migrated' && host === 'h2')
    // Longer than the two looks that would believe it.
    await delay(1500)
    await stage.fleet.host('h2').server.start()
    expect((await ran).outcome).toMatchObject({ outcome: 'complete', result: { to: 'h2' } })
  }))

test('a disk that the target does not have is refused by the host with its reason, and nothing moves', () =>
  withStage({}, async (stage) => {
    const uuid = await running(stage)
    stage.fleet.host('h2').faults.add({
      on: 'DOMAIN_MIGRATE_PREPARE3_PARAMS',
      fault: { kind: 'error', code: 'CPU_INCOMPATIBLE', domain: 'CPU', message: 'no avx' },
      times: 1
    })
    expect(errorIn(await stage.run(vmMigrate, { vm: uuid, to: 'h2' }))).toMatchObject({
      code: 'libvirt_cpu_incompatible',
      step: 'migrate',
      message: expect.stringContaining('web1 stays on h1'),
      details: { host: 'h1', libvirt: { code: 91 } }
    })
    expect(await seen(stage, 'h1', uuid)).toMatch(/^running/)
  }))

test('another definition or another VM of that name at the target is found there, and left alone', () =>
  withStage({}, async (stage) => {
    const uuid = await running(stage)
    const xml = await stage.hosts.host('h1').vmXml(uuid, { inactive: true, secure: true })
    await stage.hosts.host('h2').defineVm(xml)
    expect(errorIn(await stage.run(vmMigrate, { vm: uuid, to: 'h2' }))).toMatchObject({ code: 'defined_on_target' })
    await stage.hosts.host('h2').undefineVm(uuid, { savedImage: true, snapshots: true, firmwareState: true })
    await stage.hosts.host('h2').defineVm(xml.replace(uuid, '11111111-2222-4333-8444-555555555555'))
    expect(errorIn(await stage.run(vmMigrate, { vm: uuid, to: 'h2' }))).toMatchObject({ code: 'name_taken' })
    expect(await seen(stage, 'h1', uuid)).toMatch(/^running/)
  }))

test('two running copies: the one at the source is paused at once, and nobody claims to know more', () =>
  withStage({ sharedStores: [{ name: 'nfs', path: '/shared', kind: 'block' }] }, async (stage) => {
    const { uuid: id } = await stage.done(vmCreate, { name: 'web1', memoryMiB: 64, host: 'h1' })
    const uuid = textOf(id)
    await stage.done(vmStart, { vm: uuid })
    const xml = await stage.hosts.host('h1').vmXml(uuid, { inactive: true, secure: true })
    await stage.hosts.host('h2').defineVm(xml)
    await stage.hosts.host('h2').startVm(uuid, { freshBoot: true, paused: false })
    const { outcome, logs } = await stage.run(vmMigrate, { vm: uuid, to: 'h2' })
    expect(outcome).toMatchObject({ outcome: 'uncertain', error: { code: 'two_copies_run' } })
    expect(logs.some((line) => line.startsWith('error: web1 runs on h1 and on h2'))).toBe(true)
    expect(await seen(stage, 'h1', uuid)).toBe('paused (user)')
    expect(await seen(stage, 'h2', uuid)).toMatch(/^running/)
  }))

test.each([
  ['live', {}, 'look at the target'],
  ['offline', { offline: true }, 'tell h2 of its snapshots']
])('moved %s, a definition that somebody keeps on a third host is no source: it stays as it is', (_, how, diesAt) =>
  withStage({ hosts: 3 }, async (stage) => {
    const uuid = await running(stage)
    await stage.done(vmSnapshotCreate, { vm: uuid, name: 'ours' })
    if ('offline' in how) await stage.done(vmStop, { vm: uuid, timeoutSeconds: 0, force: true })
    const third = stage.hosts.host('h3')
    await third.defineVm(await stage.hosts.host('h1').vmXml(uuid, { inactive: true, secure: true }))
    const mark = { instance: randomUUID(), task: 1, generation: 1 }
    await third.createSnapshot(uuid, { name: 'theirs', description: null, mark })
    await stage.relist()
    const move = stage.task(vmMigrate, { vm: uuid, to: 'h2', ...how })
    // The move itself is over, and nobody has said so yet.
    const onStep = (step: string) => {
      if (step === diesAt) throw new Error('died')
    }
    await expect(move.run({ onStep })).rejects.toThrow('died')
    await stage.relist()
    expect(await seen(stage, 'h1', uuid)).toBe('absent')
    expect((await move.run()).outcome).toMatchObject({ outcome: 'complete', result: { to: 'h2' } })
    expect(await seen(stage, 'h3', uuid)).toMatch(/^off/)
    const names = async (host: string) => (await stage.hosts.host(host).snapshots(uuid)).map(({ name }) => name)
    expect([await names('h2'), await names('h3')]).toEqual([['ours'], ['theirs']])
  })
)
