// vm edit: a definition into an editor and back. What was read is named by its digest, so that nothing is overwritten that somebody
// else changed meanwhile; a definition that the server refuses is not lost.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { VmXmlView } from '../../api/fleet.ts'
import type { Given, OwnCommand } from '../command.ts'
import type { Cli } from '../context.ts'
import { CliError, usage, type ExitName } from '../failure.ts'
import type { CommonOptions } from '../program.ts'
import { dryRun, follow, refuseGraphs, submit } from '../submit.ts'
import { part } from './reading.ts'

export const vmEdit: OwnCommand = {
  verb: 'edit',
  summary: "Edit a VM's definition in $EDITOR, or replace it by a file",
  submits: 'vm.edit',
  waits: true,
  previews: true,
  operands: [{ name: 'vm', help: 'VM: NAME, NAME@HOST or UUID', kind: 'text', names: 'vm' }],
  options: [
    { flags: '--file <file>', help: 'the new definition; - is standard input', kind: 'text' },
    {
      flags: '--was <digest>',
      help: 'with --file: only if the definition is still the one of this digest',
      kind: 'text'
    },
    { flags: '--take-back', help: 'take the last edit back, if nothing changed since', kind: 'flag' }
  ],
  more: 'Passwords are not shown, and stay. A running guest has the new definition from its next boot on.',
  run: edit
}

async function edit(cli: Cli, { operands, options }: Given, common: CommonOptions): Promise<ExitName> {
  refuseGraphs(common)
  const vm = operands['vm']?.[0] ?? ''
  if (options['takeBack']) return send(cli, { vm, takeBack: true }, common)
  const before = await cli.client().get<VmXmlView>(`/vms/${part(vm)}/xml`)
  const file = options['file']
  if (typeof file === 'string') {
    const was = typeof options['was'] === 'string' ? options['was'] : before.digest
    return send(cli, { vm: before.uuid, xml: await cli.readInput(file), was }, common)
  }
  if (options['was'] !== undefined) throw usage('--was is for --file', 'add --file, or leave it out')
  return inEditor(cli, vm, before, common)
}

async function inEditor(cli: Cli, vm: string, before: VmXmlView, common: CommonOptions): Promise<ExitName> {
  // Only its owner may read it, and only until it was sent.
  const directory = await mkdtemp(join(tmpdir(), 'taskomatic-edit-'))
  const file = join(directory, 'definition.xml')
  let sent = false
  try {
    await writeFile(file, before.xml, { mode: 0o600 })
    await runEditor(cli, file)
    const xml = await readFile(file, 'utf8')
    sent = xml === before.xml
    if (sent) {
      cli.say('nothing was changed')
      return 'done'
    }
    const exit = await send(cli, { vm: before.uuid, xml, was: before.digest }, common)
    sent = exit === 'done'
    return exit
  } finally {
    if (sent) await rm(directory, { recursive: true, force: true })
    else cli.say(`what you wrote is in ${file}; send it again: taskomatic vm edit ${vm} --file ${file}`)
  }
}

async function runEditor(cli: Cli, file: string): Promise<void> {
  const editor = cli.env['VISUAL'] || cli.env['EDITOR'] || 'vi'
  // As a shell would: $EDITOR may bring words of its own.
  const child = spawn('sh', ['-c', `${editor} "$1"`, 'sh', file], { stdio: 'inherit' })
  const [code] = (await once(child, 'exit')) as [number | null]
  if (code !== 0)
    throw new CliError('error', `${editor} ended with ${code ?? 'a signal'}`, {
      next: 'set EDITOR to one that works, or use --file'
    })
}

async function send(cli: Cli, args: Record<string, unknown>, common: CommonOptions): Promise<ExitName> {
  const body = { action: 'vm.edit', args, ...(common.reason === undefined ? {} : { reason: common.reason }) }
  if (common.dryRun) return dryRun(cli, { path: '/tasks', body }, common)
  return follow(cli, await submit(cli, '/tasks', body), common)
}
