// What libvirt decides of a VM's settings and life: hotplug, balloons, passwords, saved images, names, another home.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { poolRefresh } from '../../src/actions/pool-refresh.ts'
import { vmAdopt } from '../../src/actions/vm-adopt.ts'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmDelete } from '../../src/actions/vm-delete.ts'
import { digestOf, vmEdit } from '../../src/actions/vm-edit.ts'
import { vmRename } from '../../src/actions/vm-rename.ts'
import { vmReset } from '../../src/actions/vm-reset.ts'
import { vmSave } from '../../src/actions/vm-save.ts'
import { vmSet } from '../../src/actions/vm-set.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import { vmStop } from '../../src/actions/vm-stop.ts'
import { HostConnections } from '../../src/host/connections.ts'
import { AnyStage, errorIn, textOf } from '../actions/stage.ts'
import { describeWith } from '../harness/parts.ts'
import { bootImage } from './guest.ts'
import { startHosts, type Hosts } from './hosts.ts'

describeWith('real hosts', "a VM's settings and life", () => {
  let hosts: Hosts
  let connections: HostConnections
  let stage: AnyStage
  let uuid: string
  beforeAll(async () => {
    hosts = await startHosts({ count: 2 })
    connections = new HostConnections({ firstRetryMs: 50, lastRetryMs: 200 })
    stage = new AnyStage(connections)
    await stage.prepare(
      hosts.all.map(({ name, uuid: machine, uri, tlsUri }) => ({
        name,
        uuid: machine,
        controlUri: uri,
        peerUri: tlsUri,
        migrationUri: null
      })),
      hosts.shared
    )
    await writeFile(join(hosts.shared, 'boot.img'), bootImage())
    await stage.done(poolRefresh, { host: 'h1', pool: 'nfs1' })
    const disks = [{ store: 'nfs1', from: 'nfs1/boot.img', format: 'raw' }]
    uuid = textOf(
      (await stage.done(vmCreate, { name: 'web1', memoryMiB: 64, vcpus: 1, host: 'h1', graphics: 'vnc', disks }))[
        'uuid'
      ]
    )
  }, 120_000)
  afterAll(async () => {
    await connections?.stop()
    await hosts?.stop()
  }, 60_000)

  const domain = (...words: string[]) => hosts.virsh('h1', ...words)
  const off = () => stage.done(vmStop, { vm: uuid, force: true, timeoutSeconds: 0 })

  test('processors are added to a running guest and for its next boot, each where it was asked for', async () => {
    await stage.done(vmSet, { vm: uuid, maxVcpus: 3 })
    await stage.done(vmStart, { vm: uuid })
    await stage.done(vmSet, { vm: uuid, vcpus: 2, live: true })
    expect(await domain('vcpucount', 'web1')).toMatch(
      /maximum\s+live\s+3[\s\S]*current\s+config\s+1[\s\S]*current\s+live\s+2/
    )
    await stage.done(vmSet, { vm: uuid, vcpus: 3, nextBoot: true })
    expect(await domain('vcpucount', 'web1', '--config')).toContain('3')
    expect(errorIn(await stage.run(vmSet, { vm: uuid, vcpus: 9 }))).toMatchObject({ code: 'above_maximum' })
  }, 60_000)

  test('memory is set for the next boot, and there when it boots', async () => {
    await stage.done(vmSet, { vm: uuid, memoryMiB: 96, nextBoot: true })
    await off()
    await stage.done(vmStart, { vm: uuid })
    expect(await domain('dominfo', 'web1')).toMatch(
      /CPU\(s\):\s+3[\s\S]*Max memory:\s+98304 KiB[\s\S]*Used memory:\s+98304 KiB/
    )
  }, 60_000)

  test('a reset is seen as a reboot', async () => {
    await stage.done(vmReset, { vm: uuid })
    expect(await domain('domstate', 'web1')).toBe('running')
  }, 60_000)

  test('an edit keeps the password that it was not shown, and is refused once virsh has changed the definition', async () => {
    const host = connections.host('h1')
    const read = (secure: boolean) => host.vmXml(uuid, { inactive: true, secure })
    const given = (await read(true)).replace(/<graphics type='vnc'/, "$& passwd='sesame'")
    await host.defineVm(given)
    const shown = await read(false)
    expect(shown).not.toContain('sesame')
    const edited = shown.replace('<on_crash>destroy<', '<on_crash>restart<')
    expect(await stage.done(vmEdit, { vm: uuid, xml: edited, was: digestOf(shown) })).toMatchObject({
      fromNextBoot: true
    })
    expect(await read(true)).toMatch(/passwd='sesame'/)
    expect(await read(true)).toContain('<on_crash>restart<')
    expect(errorIn(await stage.run(vmEdit, { vm: uuid, xml: edited, was: digestOf(shown) }))).toMatchObject({
      code: 'definition_changed'
    })
    const invalid = (await read(false)).replace('<devices>', '<nonsense/><devices>')
    expect(
      errorIn(await stage.run(vmEdit, { vm: uuid, xml: invalid, was: digestOf(await read(false)) }))
    ).toMatchObject({
      code: 'libvirt_xml_invalid_schema',
      step: 'define it'
    })
    await stage.done(vmEdit, { vm: uuid, takeBack: true })
    expect(await read(true)).toMatch(/passwd='sesame'/)
    expect(await read(true)).toContain('<on_crash>destroy<')
  }, 60_000)

  test('a saved guest goes on where it was', async () => {
    await stage.done(vmSave, { vm: uuid })
    expect(await domain('dominfo', 'web1')).toMatch(/State:\s+shut off[\s\S]*Managed save:\s+yes/)
    expect(errorIn(await stage.run(vmStart, { vm: uuid, host: 'h2' }))).toMatchObject({ code: 'vm_has_saved_image' })
    expect(await stage.done(vmStart, { vm: uuid })).toMatchObject({ restored: true })
    expect(await domain('domstate', '--reason', 'web1')).toBe('running (restored)')
    // A paused guest runs after it was saved: that is what a start promises.
    await domain('suspend', 'web1')
    await stage.done(vmSave, { vm: uuid })
    await stage.done(vmStart, { vm: uuid })
    expect(await domain('domstate', 'web1')).toBe('running')
  }, 60_000)

  test('an image that virsh made, or that is older than a run, is not restored', async () => {
    await domain('managedsave', 'web1')
    await stage.relist()
    expect(errorIn(await stage.run(vmStart, { vm: uuid }))).toMatchObject({ code: 'vm_has_saved_image' })
    await stage.done(vmStart, { vm: uuid, discardSaved: true })
    await stage.done(vmSave, { vm: uuid })
    // The same VM is started on the other host behind our back, and writes to the disk.
    const xml = await connections.host('h1').vmXml(uuid, { inactive: true, secure: true })
    await connections.host('h2').defineVm(xml)
    await hosts.virsh('h2', 'start', 'web1')
    await stage.relist()
    await hosts.virsh('h2', 'destroy', 'web1')
    await hosts.virsh('h2', 'undefine', 'web1')
    await stage.relist()
    expect(errorIn(await stage.run(vmStart, { vm: uuid }))).toMatchObject({ code: 'vm_has_saved_image' })
    expect(await stage.done(vmStart, { vm: uuid, discardSaved: true })).not.toHaveProperty('restored')
    expect(await domain('domstate', '--reason', 'web1')).toBe('running (booted)')
    expect(await domain('dominfo', 'web1')).toMatch(/Managed save:\s+no/)
    await off()
  }, 60_000)

  test('it is renamed, starts on the other host under its new name, and is defined nowhere else', async () => {
    await stage.done(vmRename, { vm: uuid, name: 'web2' })
    expect(await stage.done(vmStart, { vm: uuid, host: 'h2' })).toMatchObject({ host: 'h2', movedFrom: 'h1' })
    expect(await hosts.virsh('h2', 'domstate', '--reason', 'web2')).toBe('running (booted)')
    expect(await hosts.virsh('h1', 'list', '--all', '--name')).toBe('')
    expect(await connections.host('h2').vmXml(uuid, { inactive: true, secure: true })).toMatch(/passwd='sesame'/)
    await stage.done(vmDelete, { vm: uuid, volumes: true, force: true })
  }, 60_000)

  test("another manager's VM is read-only until it is adopted, and its metadata stays", async () => {
    const metadata = '<metadata><other:vm xmlns:other="http://other.example/1"/></metadata>'
    const type = (await connections.host('h1').identify()).domainType
    const xml = `<domain type='${type}'><name>theirs</name>${metadata}<memory unit='MiB'>32</memory><os><type>hvm</type></os></domain>`
    const { uuid: theirs } = await connections.host('h1').defineVm(xml)
    await stage.relist()
    expect(errorIn(await stage.run(vmStart, { vm: theirs }))).toMatchObject({ code: 'vm_foreign' })
    await stage.done(vmAdopt, { vm: theirs })
    expect(await domain('dumpxml', '--inactive', 'theirs')).toMatch(/other\.example[\s\S]*urn:taskomatic/)
    await stage.done(vmStart, { vm: theirs })
    await stage.done(vmDelete, { vm: theirs, force: true })
  }, 60_000)
})
