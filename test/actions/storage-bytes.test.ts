// Volumes' bytes up to simulated hosts and down again: whole, checked, and never under a guest that writes.
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { expect, test } from 'vitest'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import { vmStop } from '../../src/actions/vm-stop.ts'
import { volumeCreate } from '../../src/actions/volume-create.ts'
import { volumeDownload } from '../../src/actions/volume-download.ts'
import { volumeResize } from '../../src/actions/volume-resize.ts'
import { volumeUpload } from '../../src/actions/volume-upload.ts'
import type { Staged } from '../../src/staging/uploads.ts'
import { errorIn, textOf, withStage, type Stage } from './stage.ts'

const files = (stage: Stage) => [...(stage.fleet.stores.get('nfs')?.files.keys() ?? [])].toSorted()
const content = (stage: Stage, path: string) => stage.fleet.stores.get('nfs')?.files.get(path)?.content
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

async function* pieces(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += 100_000) yield bytes.subarray(at, at + 100_000)
}

/** What a client does first, and then asks for. */
async function sent(stage: Stage, bytes: Buffer, more: object = {}): Promise<Staged & { store: string; name: string }> {
  return { store: 'nfs1', name: 'a.img', ...(await stage.staging.uploads.stage(pieces(bytes))), ...more }
}

const bytes = randomBytes(300_000)

test('what was sent becomes a volume, is read back, and waits no longer with the server', () =>
  withStage({}, async (stage) => {
    const asked = await sent(stage, bytes, { verify: true })
    const upload = stage.task(volumeUpload, asked)
    const { outcome, progress, steps } = await upload.run()
    expect(outcome).toMatchObject({
      outcome: 'complete',
      result: { volume: 'nfs1/a.img', path: '/shared/a.img', bytes: 300_000, sha256: sha256(bytes), format: 'raw' }
    })
    expect(progress.at(-1)).toEqual({ done: 300_000, total: 300_000 })
    expect(steps).toContain('read the bytes back')
    expect(files(stage)).toEqual(['/a.img'])
    expect(content(stage, '/a.img')?.subarray(0, 300_000).equals(bytes)).toBe(true)
    expect(await stage.hosts.host('h2').volume('nfs1', 'a.img')).toBeDefined()
    expect(await stage.staging.uploads.find(asked.upload)).toBeUndefined()
    expect(await upload.probe()).toMatchObject({ happened: 'yes', result: { sha256: sha256(bytes) } })
    expect(errorIn(await upload.run())).toMatchObject({ code: 'upload_gone' })
  }))

test('what a host does not take whole is made again by the next attempt, though the volume looks whole', () =>
  withStage({}, async (stage) => {
    const upload = stage.task(volumeUpload, await sent(stage, bytes))
    stage.fleet.host('h1').faults.add({ on: 'STORAGE_VOL_UPLOAD', fault: { kind: 'drop_after' }, times: 1 })
    expect((await upload.run()).outcome.outcome).toBe('retry')
    await stage.reachable('h1')
    expect(files(stage)).toContain('/a.img')
    expect(await upload.probe()).toMatchObject({ happened: 'no', evidence: { there: true, marked: true } })
    expect((await upload.run()).outcome.outcome).toBe('complete')
    expect(files(stage)).toEqual(['/a.img'])
    expect(content(stage, '/a.img')?.subarray(0, 300_000).equals(bytes)).toBe(true)
  }))

test('bytes that the host kept otherwise than they were sent are found out, and taken away', () =>
  withStage({}, async (stage) => {
    const upload = stage.task(volumeUpload, await sent(stage, bytes, { verify: true }))
    const { outcome } = await upload.run({
      onStep: (step) => {
        if (step !== 'read the bytes back') return
        const kept = content(stage, '/a.img')
        kept?.writeUInt8((kept.readUInt8(777) + 1) % 256, 777)
      }
    })
    expect(outcome).toMatchObject({ outcome: 'failed', error: { message: expect.stringContaining('other bytes') } })
    expect(files(stage)).toEqual([])
  }))

test('an upload that is cancelled leaves nothing on the host', () =>
  withStage({}, async (stage) => {
    const upload = stage.task(volumeUpload, await sent(stage, bytes))
    const { outcome } = await upload.run({ onStep: (step) => step === 'send the bytes' && upload.cancel() })
    expect(outcome.outcome).toBe('cancelled')
    expect(files(stage)).toEqual([])
  }))

test('a volume that is there is replaced only when that was asked', () =>
  withStage({}, async (stage) => {
    await stage.done(volumeCreate, { store: 'nfs1', name: 'a.img', sizeMiB: 1, format: 'raw' })
    expect(errorIn(await stage.run(volumeUpload, await sent(stage, bytes)))).toMatchObject({ code: 'volume_exists' })
    await stage.done(volumeUpload, await sent(stage, bytes, { replace: true }))
    expect(content(stage, '/a.img')?.subarray(0, 300_000).equals(bytes)).toBe(true)
  }))

test('a volume of a VM is replaced while it is off, and neither replaced nor read while it runs', () =>
  withStage({}, async (stage) => {
    const disks = [{ store: 'nfs1', sizeMiB: 1, name: 'a.img' }]
    const { uuid } = await stage.done(vmCreate, { name: 'web1', memoryMiB: 64, host: 'h2', disks })
    await stage.done(volumeUpload, await sent(stage, bytes, { replace: true }))
    const before = content(stage, '/a.img')
    // Behind our back: the inventory still says that it is off.
    await stage.hosts.host('h2').startVm(textOf(uuid), { freshBoot: true, paused: false })
    const error = { code: 'volume_in_use', message: expect.stringContaining('"web1" on h2 (running)') }
    expect(errorIn(await stage.run(volumeUpload, await sent(stage, bytes, { replace: true })))).toMatchObject(error)
    const down = { volume: 'nfs1/a.img', download: randomUUID() }
    expect(errorIn(await stage.run(volumeDownload, down))).toMatchObject(error)
    await stage.relist()
    expect(errorIn(await stage.run(volumeDownload, down))).toMatchObject({ code: 'volume_in_use', step: 'check' })
    expect(content(stage, '/a.img')).toBe(before)
    expect(stage.fleet.journal.twoWriters).toBe(0)
  }))

test('the disk of a saved VM is neither replaced nor made larger: its memory knows what is on it', () =>
  withStage({}, async (stage) => {
    const disks = [{ store: 'nfs1', sizeMiB: 1, name: 'a.img' }]
    const { uuid } = await stage.done(vmCreate, { name: 'web1', memoryMiB: 64, host: 'h2', disks })
    await stage.done(vmStart, { vm: uuid })
    // Behind our back: the inventory knows of no image yet.
    await stage.hosts.host('h2').saveVm(textOf(uuid))
    await stage.hosts.host('h2').untilVm(textOf(uuid), (vm) => vm?.power === 'off', { timeoutMs: 5_000 })
    const size = { volume: 'nfs1/a.img', sizeMiB: 2 }
    const refused = (step: string) => ({
      code: 'vm_has_saved_image',
      step,
      message: expect.stringContaining('"web1"'),
      next: expect.stringContaining('`taskomatic vm start web1 --discard-saved`')
    })
    for (const step of ['look at the volume', 'check']) {
      if (step === 'check') await stage.relist()
      else
        stage.memory.sighted(textOf(uuid), 'h2', {
          ...(await stage.hosts.host('h2').vm(textOf(uuid)))!,
          hasSavedImage: false
        })
      const upload = await stage.run(volumeUpload, await sent(stage, bytes, { replace: true }))
      expect(errorIn(upload)).toMatchObject(refused(step))
      expect(errorIn(await stage.run(volumeResize, size))).toMatchObject(refused(step))
    }
    await stage.done(vmStart, { vm: uuid, discardSaved: true })
    await stage.done(vmStop, { vm: uuid, force: true, timeoutSeconds: 0 })
    await stage.done(volumeResize, size)
  }))

test('a volume flows to whoever came for it, with its checksum as the result', () =>
  withStage({}, async (stage) => {
    await stage.done(volumeUpload, await sent(stage, bytes))
    const download = randomUUID()
    const taken = stage.staging.downloads.take(download, { timeoutMs: 5_000 })
    const result = stage.done(volumeDownload, { volume: 'nfs1/a.img', download })
    const hash = createHash('sha256')
    for await (const chunk of await taken) hash.update(chunk)
    expect(await result).toMatchObject({ bytes: 300_032, sha256: hash.digest('hex') })
  }))

test('a download whose client leaves fails and says so', () =>
  withStage({}, async (stage) => {
    await stage.done(volumeUpload, await sent(stage, bytes))
    const download = randomUUID()
    const ran = stage.run(volumeDownload, { volume: 'nfs1/a.img', download })
    const source = (await stage.staging.downloads.take(download, { timeoutMs: 5_000 }))[Symbol.asyncIterator]()
    await source.next()
    await source.return?.()
    expect(errorIn(await ran)).toMatchObject({ code: 'staging_nobody_there', step: 'send the bytes' })
  }))

test('a task speaks of the very bytes that were sent', () =>
  withStage({}, async (stage) => {
    const asked = await sent(stage, bytes)
    expect(errorIn(await stage.run(volumeUpload, { ...asked, bytes: 299_999 }))).toMatchObject({
      code: 'upload_differs'
    })
    expect(errorIn(await stage.run(volumeUpload, { ...asked, upload: randomUUID() }))).toMatchObject({
      code: 'upload_gone'
    })
    expect(files(stage)).toEqual([])
  }))
