// Completion in bash, by bash itself: what a key press would put on the line.
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { bashScript } from '../../src/cli/bash-completion.ts'
import { fakeServer, run } from './fake-server.ts'

let directory: string
beforeEach(() => (directory = mkdtempSync(join(tmpdir(), 'tk-bash-'))))
afterEach(() => rmSync(directory, { recursive: true, force: true }))

/** What bash offers for a line, where the command answers so. */
function offered(line: string, answer: string[], directive = 4): { words: string[]; asked: string; err: string } {
  const stub = join(directory, 'taskomatic')
  writeFileSync(join(directory, 'answer'), `${answer.map((word) => `${word}\tabout it\n`).join('')}:${directive}\n`)
  writeFileSync(stub, `#!/bin/sh\nprintf '<%s>' "$@" > ${directory}/asked\ncat ${directory}/answer\n`)
  chmodSync(stub, 0o755)
  writeFileSync(join(directory, 'completion'), bashScript)
  const script = `set -u
source ${directory}/completion; source ${directory}/completion
COMP_WORDBREAKS=$' \\t\\n"\\'@><=;|&(:' COMP_LINE=$1 COMP_POINT=\${#1} COMP_WORDS=(taskomatic) COMP_CWORD=0
_taskomatic
printf '%s\\n' "\${COMPREPLY[@]:-}"`
  const { stdout, stderr } = spawnSync('bash', ['--norc', '-c', script, 'bash', line], {
    encoding: 'utf8',
    cwd: directory,
    env: { PATH: `${directory}:/usr/bin:/bin`, HOME: directory }
  })
  const asked = spawnSync('cat', [join(directory, 'asked')], { encoding: 'utf8' }).stdout
  return { words: stdout.trim().split('\n').filter(Boolean), asked, err: stderr }
}

describe.skipIf(!existsSync('/bin/bash'))('bash', () => {
  test('asks with the words of the line, and offers what begins as the last one does', () => {
    const { words, asked, err } = offered('taskomatic vm start we', ['web1', 'web2', 'db'])
    expect(words).toEqual(['web1', 'web2'])
    expect(asked).toBe('<complete><--><vm><start><we>')
    expect(err).toBe('')
  })

  test('asks with an empty word after a space', () => {
    expect(offered('taskomatic vm ', ['list']).asked).toBe('<complete><--><vm><>')
  })

  test('does not repeat what stands before a sign that parts words', () => {
    expect(offered('taskomatic task list --state=ru', ['--state=running']).words).toEqual(['running'])
    expect(offered('taskomatic vm show web1@h', ['web1@h1']).words).toEqual(['@h1'])
  })

  test('evaluates neither the line nor a name', () => {
    expect(offered('taskomatic vm show $(touch x)', ['a']).asked).toBe('<complete><--><vm><show><$(touch><x)>')
    expect(offered('taskomatic vm show od', ['odd;touch x']).words).toEqual(['odd\\;touch\\ x'])
    expect(existsSync(join(directory, 'x'))).toBe(false)
  })
})

test('the command prints the script for bash, and others for other shells', async () => {
  expect((await run(['complete', 'bash'])).out).toBe(bashScript)
})

test('names are offered behind a verb of two words as well', async () => {
  const server = await fakeServer(() => ({ body: { items: [{ name: 'web1' }] } }))
  const lines: string[] = []
  const log = console.log
  console.log = (line: string) => void lines.push(line)
  try {
    await run(['complete', '--', 'vm', 'snapshot', 'create', 'we'], { url: server.url })
  } finally {
    console.log = log
    await server.stop()
  }
  expect(server.asked.map(({ path }) => path)).toEqual(['/vms'])
  expect(lines.join('\n')).toMatch(/^web1/m)
})
