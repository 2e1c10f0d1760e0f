// The documents say what is there: their links, paths, npm scripts and commands exist.

import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { commandOf } from '../src/cli/command.ts'
import { nouns, otherCommands } from '../src/cli/nouns.ts'
import { optionsOf } from '../src/cli/program.ts'

const root = join(import.meta.dirname, '..')
const documents = globSync('{README,CONTRIBUTING}.md', { cwd: root }).concat(globSync('docs/**/*.md', { cwd: root }))
const textOf = (document: string): string => readFileSync(join(root, document), 'utf8')

/** What stands between backticks, and the lines of code blocks. */
function codeOf(text: string): string[] {
  const blocks = [...text.matchAll(/^```\w*\n([\s\S]*?)^```/gm)].flatMap((match) => match[1]!.split('\n'))
  const spans = [...text.replaceAll(/^```[\s\S]*?^```/gm, '').matchAll(/`([^`\n]+)`/g)].map((match) => match[1]!)
  return [...blocks, ...spans].map((line) => line.replace(/\s+(#|&).*$/, '').trim())
}

async function faultOfCommand(line: string): Promise<string | undefined> {
  const [first = '', verb, ...rest] = line.split(/\s+/).slice(1)
  if (first === '' || first.startsWith('-') || /^[A-Z]+$/.test(first) || first in otherCommands) return undefined
  const noun = nouns[first]
  if (!noun) return `there is no noun ${first}`
  if (verb === undefined || verb.startsWith('-')) return undefined
  const command = commandOf(await noun.load(), [verb, ...rest])
  if (!command) return `${first} has no verb ${verb}`
  const flags = optionsOf(command).map((option) => option.flags)
  const unknown = rest.find(
    (word) => word.startsWith('--') && !flags.some((flag) => flag.split(/[ ,]+/).includes(word))
  )
  return unknown && `${first} ${verb} has no option ${unknown}`
}

async function faultsOf(document: string): Promise<string[]> {
  const text = textOf(document)
  const { scripts } = JSON.parse(textOf('package.json')) as { scripts: Record<string, string> }
  const faults: string[] = []
  for (const [, target = ''] of text.matchAll(/\]\(([^)#]+)[^)]*\)/g)) {
    if (!/^https?:/.test(target) && !existsSync(join(root, dirname(document), target))) faults.push(`no file ${target}`)
  }
  for (const code of codeOf(text)) {
    const path = /^(?:node |sh )?((?:src|test|docs|bin|sql|bench|\.ci)\/[\w./-]*\w)(?=$|[ /])/.exec(code)?.[1]
    if (path && !/[{*…<]/.test(code) && !existsSync(join(root, path))) faults.push(`no file ${path}`)
    const script = /^npm run ([\w:-]+)/.exec(code)?.[1]
    if (script && !(script in scripts)) faults.push(`no script ${script}`)
    if (/^taskomatic( |$)/.test(code)) {
      const fault = await faultOfCommand(code)
      if (fault) faults.push(`${code}: ${fault}`)
    }
  }
  return faults.map((fault) => `${document}: ${fault}`)
}

test('every link, path, script and command in the documents exists', async () => {
  expect(documents).toContain('README.md')
  expect((await Promise.all(documents.map(faultsOf))).flat()).toEqual([])
})

test.for([
  ['taskomatic vm start web1 --dry-run', undefined],
  ['taskomatic vm fly web1', 'vm has no verb fly'],
  ['taskomatic cow list', 'there is no noun cow'],
  ['taskomatic vm start web1 --fast', 'vm start has no option --fast']
] as const)('%s: %s', async ([line, fault]) => {
  expect(await faultOfCommand(line)).toBe(fault)
})
