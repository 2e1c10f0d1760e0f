// volume upload and download: files of this machine to volumes and back. What goes over the line is checked by its SHA-256; zeros take
// no room in the file that is written.
import { createHash, randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, rename, rm, stat, type FileHandle } from 'node:fs/promises'
import { Readable } from 'node:stream'
import type { UploadView } from '../../api/contents.ts'
import type { TaskView } from '../../api/task.ts'
import type { Given, OwnCommand } from '../command.ts'
import type { Cli } from '../context.ts'
import { CliError, usage, type ExitName } from '../failure.ts'
import type { CommonOptions } from '../program.ts'
import { bytesText } from '../render.ts'
import { follow, submit } from '../submit.ts'
import { hasEnded } from '../tasks.ts'
import { waitForTasks } from '../wait.ts'

const sayEveryMs = 1_000
const holeBytes = 64 * 1024

const reasonOption = { flags: '--reason <text>', help: 'why; kept with the task', kind: 'text' } as const

export const uploadCommand: OwnCommand = {
  verb: 'upload',
  summary: 'Make a volume of a file: raw or qcow2',
  submits: 'volume.upload',
  operands: [
    { name: 'volume', help: 'the new volume: STORE/NAME', kind: 'text' },
    { name: 'file', help: '- for standard input', kind: 'text' }
  ],
  options: [
    { flags: '--replace', help: 'in place of a volume that is there; its VMs must be off', kind: 'flag' },
    { flags: '--verify', help: 'read it back from the host and compare', kind: 'flag' },
    reasonOption
  ],
  waits: true,
  run: upload,
  more: 'Example: taskomatic volume upload nfs1/debian.qcow2 debian-12-genericcloud-amd64.qcow2'
}

export const downloadCommand: OwnCommand = {
  verb: 'download',
  summary: 'Make a file of a volume',
  submits: 'volume.download',
  operands: [
    { name: 'volume', help: 'STORE/NAME', kind: 'text', names: 'volume' },
    { name: 'file', help: 'the new file; - for standard output', kind: 'text' }
  ],
  options: [{ flags: '--force', help: 'over a file that is there', kind: 'flag' }, reasonOption],
  run: download
}

function operand({ operands }: Given, name: string): string {
  const [word] = operands[name] ?? []
  if (word === undefined) throw usage(`${name} is missing`, 'name it')
  return word
}

const reasonOf = ({ options }: Given) => (typeof options['reason'] === 'string' ? { reason: options['reason'] } : {})

async function upload(cli: Cli, given: Given, common: CommonOptions): Promise<ExitName> {
  const volume = operand(given, 'volume')
  const file = operand(given, 'file')
  const at = volume.lastIndexOf('/')
  if (at < 0) throw usage(`volume ${JSON.stringify(volume)} does not say in which store`, `write STORE/${volume}`)
  const bytes = file === '-' ? undefined : await sizeOf(file)
  const source = file === '-' ? process.stdin : createReadStream(file, { highWaterMark: 1024 * 1024 })
  const staged = await cli.client().sendBytes<UploadView>('/uploads', counted(cli, source, bytes, 'sent'), {
    signal: cli.interrupted,
    ...(bytes === undefined ? {} : { bytes })
  })
  const args = {
    store: volume.slice(0, at),
    name: volume.slice(at + 1),
    ...staged,
    ...(given.options['replace'] ? { replace: true } : {}),
    ...(given.options['verify'] ? { verify: true } : {})
  }
  return follow(cli, await submit(cli, '/tasks', { action: 'volume.upload', args, ...reasonOf(given) }), common)
}

async function sizeOf(file: string): Promise<number> {
  try {
    const { size } = await stat(file)
    return size
  } catch (error) {
    throw usage(`cannot read ${file}: ${error instanceof Error ? error.message : ''}`, 'name a file')
  }
}

/** The source's bytes; says now and then how many have gone. */
function counted(cli: Cli, source: Readable, total: number | undefined, verb: string): Readable {
  let done = 0
  let saidAt = Date.now()
  const count = async function* () {
    for await (const chunk of source as AsyncIterable<Buffer>) {
      done += chunk.length
      if (cli.err.isTTY && Date.now() - saidAt >= sayEveryMs) {
        saidAt = Date.now()
        cli.say(`${bytesText(done)}${total === undefined ? '' : ` of ${bytesText(total)}`} ${verb}`)
      }
      yield chunk
    }
  }
  return Readable.from(count(), { objectMode: false })
}

async function download(cli: Cli, given: Given): Promise<ExitName> {
  const file = operand(given, 'file')
  if (file !== '-' && !given.options['force']) await refuseExisting(file)
  const id = randomUUID()
  const args = { volume: operand(given, 'volume'), download: id }
  const submitted = await submit(cli, '/tasks', { action: 'volume.download', args, ...reasonOf(given) })
  const task = submitted.tasks[0]?.id ?? -1
  cli.say(`task ${task}: ${submitted.tasks[0]?.title ?? ''}`)
  const response = await comeFor(cli, id, task)
  // It ended without giving anything: it says itself why.
  if (!response) return waitForTasks(cli, [task])
  const source = counted(cli, response, undefined, 'received')
  const sha256 = file === '-' ? await print(source) : await write(source, file)
  return check(cli, task, sha256, file)
}

async function refuseExisting(file: string): Promise<void> {
  const found = await stat(file).catch(() => undefined)
  if (found) throw usage(`there is a file ${file} already`, 'choose another name, or write over it with `--force`')
}

/** The bytes, once the task gives them; undefined when it has ended instead. */
async function comeFor(cli: Cli, id: string, task: number) {
  for (;;) {
    const response = await cli.client().takeBytes(`/downloads/${id}`, { unless: 'not_yet', signal: cli.interrupted })
    if (response) return response
    const { state } = await cli.client().get<TaskView>(`/tasks/${task}`)
    if (hasEnded(state)) return undefined
    cli.say(`task ${task} is ${state}; waiting for it`)
  }
}

async function print(source: Readable): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of source as AsyncIterable<Buffer>) {
    hash.update(chunk)
    if (!process.stdout.write(chunk)) await new Promise((resolve) => process.stdout.once('drain', resolve))
  }
  return hash.digest('hex')
}

/** Beside its place until it is whole. */
async function write(source: Readable, file: string): Promise<string> {
  const part = `${file}.part`
  const hash = createHash('sha256')
  const out = await open(part, 'w')
  try {
    let at = 0
    for await (const chunk of source as AsyncIterable<Buffer>) {
      hash.update(chunk)
      await writeSparse(out, chunk, at)
      at += chunk.length
    }
    await out.truncate(at)
    await out.close()
    await rename(part, file)
  } catch (error) {
    await out.close().catch(() => {})
    await rm(part, { force: true })
    throw error
  }
  return hash.digest('hex')
}

const zeros = Buffer.alloc(holeBytes)

async function writeSparse(out: FileHandle, chunk: Buffer, from: number): Promise<void> {
  for (let start = 0; start < chunk.length; start += holeBytes) {
    const piece = chunk.subarray(start, start + holeBytes)
    if (piece.length === holeBytes && piece.equals(zeros)) continue
    let done = 0
    while (done < piece.length)
      done += (await out.write(piece, done, piece.length - done, from + start + done)).bytesWritten
  }
}

async function check(cli: Cli, task: number, sha256: string, file: string): Promise<ExitName> {
  const outcome = await waitForTasks(cli, [task])
  if (outcome !== 'done') return outcome
  const { result } = await cli.client().get<TaskView>(`/tasks/${task}`)
  const read = (result as { sha256?: string } | null)?.sha256
  if (read === sha256) {
    cli.say(`SHA-256 ${sha256}`)
    return 'done'
  }
  throw new CliError('error', `${file} has SHA-256 ${sha256}, and the host gave ${String(read)}`, {
    next: 'download it again'
  })
}
