// The command that keeps simulated hosts up.

import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { connect } from '../../src/libvirt/connect.ts'
import { runSimHosts, type RunSimHostsOptions } from '../../src/sim/command.ts'
import type { JournalEntry } from '../../src/sim/journal.ts'
import { ownDirectory } from '../../src/sim/owned-directory.ts'
import { readTrouble } from '../../src/sim/trouble.ts'

const root = join(import.meta.dirname, '..', '..')
let dir: string
beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'sim-command-'))))
afterEach(() => rmSync(dir, { recursive: true, force: true }))

const uriOf = (host: string): string => `qemu+unix:///system?socket=${join(dir, `${host}.sock`)}`

/** Runs `use` while the hosts are up; answers what was printed and said. */
async function whileUp(
  options: Partial<RunSimHostsOptions>,
  use: () => Promise<void>
): Promise<{ printed: string[]; said: string[] }> {
  const stop = new AbortController()
  const [printed, said]: string[][] = [[], []]
  const up = Promise.withResolvers<void>()
  const print = (line: string): void => {
    printed?.push(line)
    up.resolve()
  }
  const say = (line: string): void => void said?.push(line)
  const ended = runSimHosts({ dir, hosts: ['east', 'west'], print, say, signal: stop.signal, ...options })
  try {
    await Promise.race([up.promise, ended])
    await use()
  } finally {
    stop.abort()
    await ended
  }
  return { printed: printed ?? [], said: said ?? [] }
}

test('hosts come up with their guests, say where they are, and go when told to', async () => {
  const { printed } = await whileUp({ vms: 5, running: true }, async () => {
    const connection = await connect(uriOf('east'))
    const { domains } = await connection.call('CONNECT_LIST_ALL_DOMAINS', { need_results: 1, flags: 1 })
    expect(domains.map(({ name }) => name)).toEqual(['vm1', 'vm3', 'vm5'])
    connection.destroy()
  })
  expect(printed).toEqual([`east ${uriOf('east')}`, `west ${uriOf('west')}`])
  expect(readdirSync(dir)).toEqual([])
})

test('what really happened is written to a file, line by line, and summed up at the end', async () => {
  const journalFile = join(dir, 'journal.jsonl')
  const { said } = await whileUp(
    { journalFile, memoryMiB: 1024, vms: 4, vmMemoryMiB: 800, running: true },
    async () => {}
  )
  const entries = readFileSync(journalFile, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as JournalEntry)
  expect(entries.filter(({ kind }) => kind === 'started').map(({ host }) => host)).toEqual([
    'east',
    'west',
    'east',
    'west'
  ])
  expect(entries.filter(({ overCommitted }) => overCommitted)).toHaveLength(2)
  expect(said.at(-1)).toBe('journal: 2 times more guests than memory, 0 times two guests that wrote to one disk')
})

test('a directory in which others listen is refused, one whose process is gone is taken', async () => {
  writeFileSync(join(dir, 'simhost.pid'), String(process.ppid))
  await expect(whileUp({}, async () => {})).rejects.toMatchObject({ code: 'directory_taken' })
  const gone = spawnSync('true').pid
  writeFileSync(join(dir, 'simhost.pid'), String(gone))
  await whileUp({}, async () => {})
})

describe('what goes wrong by a script', () => {
  test('rules about calls hit the host that they name, and things happen when their time has come', async () => {
    const trouble = readTrouble([
      { host: 'east', on: 'CONNECT_GET_HOSTNAME', fault: 'error', code: 'RPC', message: 'no luck', times: 1 },
      { at: 1, do: 'power-off', host: 'west' }
    ])
    await whileUp({ trouble }, async () => {
      const [east, west] = await Promise.all([connect(uriOf('east')), connect(uriOf('west'))])
      await expect(east.call('CONNECT_GET_HOSTNAME', {})).rejects.toMatchObject({ codeName: 'RPC', message: /no luck/ })
      await east.call('CONNECT_GET_HOSTNAME', {})
      await west.closed
      await expect(connect(uriOf('west'))).rejects.toMatchObject({ code: 'unreachable' })
      east.destroy()
    })
  })

  test('every happening is understood and carried out', async () => {
    const journalFile = join(dir, 'journal.jsonl')
    const trouble = readTrouble([
      { do: 'partition', between: ['east', 'west'] },
      { do: 'heal', between: ['east', 'west'] },
      { do: 'lose-events', host: 'east', times: 2, event: 'DOMAIN_EVENT_CALLBACK_LIFECYCLE' },
      { do: 'guest', vm: 'vm1', dirtyMiBps: 4000, obeysShutdown: false },
      { do: 'power-off', host: 'west', silent: true },
      { at: 0.01, do: 'boot', host: 'west' },
      { at: 0.02, do: 'restart-daemon', host: 'east' }
    ])
    await whileUp({ trouble, journalFile, vms: 2 }, async () => {
      const connection = await connect(uriOf('east')).catch(() => undefined)
      await connection?.closed
    })
    const kinds = readFileSync(journalFile, 'utf8').match(/"kind":"(host|daemon)_\w+"/g)
    expect(kinds).toEqual(['power_off', 'boot'].map((what) => `"kind":"host_${what}"`).concat(['"kind":"daemon_stopped"', '"kind":"daemon_started"'])) // prettier-ignore
  })

  test.each([
    ['a map', { do: 'boot' }, 'a script of faults is a list'],
    ['no map', ['boot'], 'entry 1: it is no map of keys and values'],
    ['an unknown call', [{ on: 'DOMAIN_FLY', fault: 'hang' }], '"DOMAIN_FLY" is no call'],
    ['an unknown fault', [{ fault: 'sigh' }], '"sigh" is no fault: one of delay, error, hang'],
    ['an unknown code', [{ fault: 'error', code: 'LUCK' }], '"LUCK" is no error code'],
    ['an unknown happening', [{ do: 'rain' }], '"rain" does not happen here'],
    ['a missing key', [{ fault: 'hang' }, { do: 'boot' }], 'entry 2: `host` is missing'],
    ['a key too many', [{ fault: 'hang', tims: 1 }], '`tims` is not understood here'],
    ['a chance above one', [{ fault: 'hang', chance: 2 }], '`chance` is a number of 0 or more, 1 at most, not 2'],
    ['one host', [{ do: 'partition', between: ['east'] }], '`between` names two hosts'],
    ['a number as text', [{ do: 'guest', vm: 'a', dirtyMiBps: '9' }], '`dirtyMiBps` is a number']
  ])('%s is refused', (_, script, message) => expect(() => readTrouble(script)).toThrow(message))

  test('a host that is not there is refused, and nothing is left up', async () => {
    const trouble = readTrouble([{ do: 'boot', host: 'north' }])
    await expect(whileUp({ trouble }, async () => {})).rejects.toThrow('entry 1: there is no host "north"')
    expect(readdirSync(dir)).toEqual([])
  })
})

test('directories whose process is gone go when the next is made; others stay', async () => {
  const before = process.env['TMPDIR']
  process.env['TMPDIR'] = dir
  try {
    for (const [name, pid] of [
      ['own-gone', spawnSync('true').pid],
      ['own-lives', process.ppid],
      ['other-gone', spawnSync('true').pid]
    ] as const) {
      mkdirSync(join(dir, name))
      writeFileSync(join(dir, name, 'owner.pid'), String(pid))
    }
    mkdirSync(join(dir, 'own-nameless'))
    const made = await ownDirectory('own-')
    expect(existsSync(made.path)).toBe(true)
    await made.remove()
    await made.remove()
    expect(readdirSync(dir).toSorted()).toEqual(['other-gone', 'own-lives', 'own-nameless'])
  } finally {
    if (before === undefined) delete process.env['TMPDIR']
    else process.env['TMPDIR'] = before
  }
})

test('the command prints names and addresses on standard output and ends cleanly at SIGTERM', async () => {
  const faults = join(dir, 'faults.yaml')
  writeFileSync(faults, '- { fault: delay, ms: 1, chance: 0.5 }\n')
  const words = ['--hosts', '2', '--vms', '2', '--socket-dir', dir, '--faults', faults, '--seed', '7']
  const child = spawn(join(root, 'bin', 'taskomatic'), ['simhost', ...words], { stdio: ['ignore', 'pipe', 'pipe'] })
  const lines: string[] = []
  for await (const line of createInterface({ input: child.stdout })) {
    lines.push(line)
    if (lines.length === 2) child.kill('SIGTERM')
  }
  const code = child.exitCode ?? (await once(child, 'exit'))[0]
  expect(lines).toEqual([`h1 ${uriOf('h1')}`, `h2 ${uriOf('h2')}`])
  expect(code).toBe(0)
  expect(readdirSync(dir)).toEqual(['faults.yaml'])
})

test.each([
  [['--hosts', '0'], 'from 1 to 1000'],
  [['--hosts', 'a,a'], 'a name is given twice'],
  [['--hosts', 'A b'], 'is not a host name'],
  [['--store', 'nfs1'], 'is not NAME=PATH'],
  [['--latency', 'soon'], 'is not a duration'],
  [['--faults', '/nowhere.yaml'], 'no such file'],
  [['--color'], "Unknown option '--color'"]
])('%j is refused as misused', async (words, message) => {
  const { simhost } = await import('../../bin/simhost.ts')
  const said: string[] = []
  const write = process.stderr.write.bind(process.stderr)
  process.stderr.write = (text: string | Uint8Array): boolean => said.push(String(text)) > 0
  try {
    expect(await simhost(words)).toBe(2)
  } finally {
    process.stderr.write = write
  }
  expect(said.join('')).toContain(message)
  expect(said.join('')).toMatch(/^ {2}next: /m)
})
