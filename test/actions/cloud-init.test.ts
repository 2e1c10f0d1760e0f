// What a new VM is told at its first boot: a disc that isoinfo reads, made once, gone with the VM, and secrets that nobody is shown.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { cloudInitProblem, seedImage, seedName, withoutPassword } from '../../src/actions/cloud-init.ts'
import { shownArgs } from '../../src/actions/secrets.ts'
import { vmCdromEject } from '../../src/actions/vm-cdrom-eject.ts'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmDelete } from '../../src/actions/vm-delete.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import { vmStop } from '../../src/actions/vm-stop.ts'
import { passwordHash } from '../../src/model/password-hash.ts'
import { obstacle } from '../harness/parts.ts'
import { errorIn, textOf, withStage, type Stage } from './stage.ts'

const uuid = '6a5f6a0e-7d6f-4c55-9a52-0d7f0e5d2c11'
const withDisc = { memoryMiB: 64, host: 'h1', disks: [{ store: 'nfs1', sizeMiB: 8 }] }
const files = (stage: Stage) => [...(stage.fleet.stores.get('nfs')?.files.keys() ?? [])].toSorted()

/** Texts on a disc, by the real isoinfo. */
function readDisc(image: Buffer): Record<string, string> {
  const directory = mkdtempSync(join(tmpdir(), 'seed-'))
  try {
    const file = join(directory, 'seed.iso')
    writeFileSync(file, image)
    const isoinfo = (...words: string[]) => execFileSync('isoinfo', ['-i', file, ...words], { encoding: 'utf8' })
    expect(isoinfo('-d')).toContain('Volume id: cidata')
    const names = isoinfo('-J', '-f').trim().split('\n')
    return Object.fromEntries(names.map((name) => [name.slice(1), isoinfo('-J', '-x', name)]))
  } finally {
    rmSync(directory, { recursive: true })
  }
}

const readable = obstacle('disc images') === undefined

test.skipIf(!readable)('plain fields become user-data and meta-data', () => {
  const told = withoutPassword({
    hostname: 'db.example.org',
    user: 'ops',
    sshKeys: ['ssh-ed25519 AAAA me'],
    password: 'pa"ss'
  })
  const {
    'user-data': userData = '',
    'meta-data': metaData = '',
    ...more
  } = readDisc(seedImage({ uuid, name: 'db' }, told))
  expect(more).toEqual({})
  expect(userData.startsWith('#cloud-config\n')).toBe(true)
  const config = JSON.parse(userData.slice('#cloud-config\n'.length)) as { user: { passwd: string } }
  expect(config).toEqual({
    hostname: 'db.example.org',
    user: { name: 'ops', lock_passwd: false, passwd: expect.any(String) },
    ssh_authorized_keys: ['ssh-ed25519 AAAA me']
  })
  expect(passwordHash('pa"ss', config.user.passwd.split('$')[2])).toBe(config.user.passwd)
  expect(JSON.parse(metaData)).toEqual({ 'instance-id': uuid, 'local-hostname': 'db.example.org' })
})

test.skipIf(!readable)('given files are put on the disc as they are', () => {
  const told = { userData: '#!/bin/sh\necho "grüße"\n', metaData: 'instance-id: x\n', networkConfig: 'version: 2\n' }
  expect(readDisc(seedImage({ uuid, name: 'db' }, told))).toEqual({
    'user-data': told.userData,
    'meta-data': told.metaData,
    'network-config': told.networkConfig
  })
})

test('files and plain fields together are refused, and a password given twice', () => {
  expect(cloudInitProblem({ userData: 'x', hostname: 'y' })?.message).toContain('"hostname" says nothing')
  expect(cloudInitProblem({ password: 'x', passwordHash: '$6$a$b' })).toBeDefined()
  expect(cloudInitProblem({ networkConfig: 'x', hostname: 'y' })).toBeUndefined()
})

test('a password is forgotten before anything is stored, and what is left is not shown', () => {
  const asked = { name: 'db', memoryMiB: 64, cloudInit: { password: 'sesame', hostname: 'db' } }
  const prepared = vmCreate.prepare?.(asked, { macs: [] })
  expect(JSON.stringify(prepared)).not.toContain('sesame')
  expect(prepared?.cloudInit?.passwordHash).toMatch(/^\$6\$/)
  const shown = shownArgs(vmCreate, prepared as never)
  expect(shown).toMatchObject({ name: 'db', cloudInit: { passwordHash: '(hidden)', hostname: 'db' } })
  expect(JSON.stringify(shown)).not.toContain('$6$')
  expect(shownArgs(vmCreate, { cloudInit: { userData: 'token: abc' } })).toEqual({
    cloudInit: { userData: '(hidden)' }
  })
  expect(shownArgs(undefined, { a: 'b' })).toEqual({ a: '(hidden)' })
})

test('a VM is made with its disc in a drive, twice is once, and the disc goes with the VM even when it was ejected', () =>
  withStage({}, async (stage) => {
    const create = stage.task(vmCreate, {
      name: 'web1',
      ...withDisc,
      cloudInit: { hostname: 'web1', password: 'sesame' }
    })
    const ran = await create.run()
    expect(ran.outcome.outcome).toBe('complete')
    expect((await create.run()).outcome).toEqual(ran.outcome)
    expect(JSON.stringify(ran)).not.toMatch(/sesame|\$6\$/)
    const vm = textOf((create.args as { uuid: string }).uuid)
    const disc = `/${seedName(vm)}`
    expect(files(stage)).toEqual([disc, '/web1.qcow2'].toSorted())
    const told = (create.args as { cloudInit: object }).cloudInit
    const content = stage.fleet.stores.get('nfs')?.files.get(disc)?.content
    expect(content?.equals(seedImage({ uuid: vm, name: 'web1' }, told))).toBe(true)
    const drive = { target: 'sda', device: 'cdrom', source: `/shared${disc}`, readOnly: true }
    expect((await stage.hosts.host('h1').vm(vm))?.disks).toMatchObject([{ target: 'vda' }, drive])
    await stage.done(vmStart, { vm })
    await stage.done(vmStop, { vm, force: true, timeoutSeconds: 0 })
    await stage.done(vmCdromEject, { vm })
    expect(await stage.done(vmDelete, { vm })).toMatchObject({ volumes: [`nfs1${disc}`] })
    expect(files(stage)).toEqual(['/web1.qcow2'])
  }))

test('a VM that is refused leaves no disc', () =>
  withStage({}, async (stage) => {
    const nics = [{ bridge: 'br0', mac: '52:54:00:00:00:99' }]
    const fault = { kind: 'error', code: 'INTERNAL_ERROR', domain: 'QEMU', message: 'no' } as const
    stage.fleet.host('h1').faults.add({ on: 'DOMAIN_DEFINE_XML_FLAGS', fault })
    const ran = await stage.run(vmCreate, { name: 'web1', ...withDisc, nics, cloudInit: { hostname: 'x' } })
    expect(errorIn(ran)).toMatchObject({ step: 'define the VM' })
    expect(files(stage)).toEqual([])
    expect(errorIn(await stage.run(vmCreate, { name: 'x', memoryMiB: 64, host: 'h1', cloudInit: {} }))).toMatchObject({
      code: 'bad_cloud_init'
    })
  }))
