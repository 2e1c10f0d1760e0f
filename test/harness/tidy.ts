// The project's own rules about its source text: who may import whom, how files are called, how long they are, how they
// begin. Pure: takes files, returns what breaks a rule. test/tidy.test.ts applies it to the tree.
// Not for what the compiler, oxlint or knip already say.

import { posix } from 'node:path'

export type SourceFile = { path: string; text: string }

/** Folder under src → the folders that it may import beside itself. Imports go downwards only. */
export const layers = {
  libvirt: [],
  db: [],
  model: [],
  staging: [],
  api: ['model'],
  messages: ['model'],
  queue: ['db'],
  inventory: ['db', 'model'],
  host: ['libvirt', 'messages', 'model'],
  actions: ['queue', 'inventory', 'host', 'staging', 'db', 'model'],
  dispatcher: ['actions', 'queue', 'inventory', 'host', 'staging', 'db', 'model'],
  identity: ['db', 'model'],
  http: ['api', 'actions', 'queue', 'inventory', 'identity', 'staging', 'db', 'model'],
  agent: ['host', 'messages', 'libvirt', 'model'],
  cli: ['api', 'model'],
  sim: ['libvirt', 'model'],
  demo: ['sim', 'cli', 'api', 'libvirt', 'model']
} as const satisfies Record<string, readonly string[]>

/** Files longer than the limit, each with the reason. */
const longFiles: Readonly<Record<string, string>> = {}
const maxLines = 400

// Names that say nothing of the domain: what is in such a file has a better place.
const emptyNames = new Set(['index', 'util', 'utils', 'helper', 'helpers', 'interfaces', 'common', 'misc'])

/** Module names of all imports and re-exports of a file, types and dynamic imports included. */
export function importsOf(text: string): string[] {
  // Declarations start in the first column, which oxfmt sees to; so a text in quotes is not taken for one.
  const declarations = /^(?:import|export)\b(?:[^'"`;]*?\bfrom)?\s*['"]([^'"]+)['"]/gm
  const dynamic = /\bimport\(\s*['"]([^'"]+)['"]/g
  return [...text.matchAll(declarations), ...text.matchAll(dynamic)].map((match) => match[1]!)
}

/** `src/queue/claim.ts` → `queue`; `src/library.ts` → `library.ts`; outside src: undefined. */
function folderOf(path: string): string | undefined {
  const [top, second] = path.split('/')
  return top === 'src' ? second : undefined
}

function importFaults({ path, text }: SourceFile): string[] {
  const top = path.split('/')[0]!
  const folder = folderOf(path)
  const faults: string[] = []
  for (const name of importsOf(text)) {
    if (!name.startsWith('.')) continue
    const target = posix.join(posix.dirname(path), name)
    if (!/\.(ts|json)$/.test(name)) faults.push(`imports ${name} without the file's ending`)
    const targetTop = target.split('/')[0]!
    if (top === 'src' && targetTop !== 'src' && target !== 'package.json') {
      faults.push(`imports ${target}: src stands on its own`)
    } else if (top === 'bin' && targetTop !== 'src' && targetTop !== 'bin' && target !== 'package.json') {
      faults.push(`imports ${target}: bin wires what is in src`)
    }
    const targetFolder = folderOf(target)
    if (targetFolder === undefined || folder === undefined || folder === targetFolder) continue
    if (folder === 'library.ts') continue // what programs may import: it picks from everywhere
    const allowed: readonly string[] = layers[folder as keyof typeof layers] ?? []
    if (!allowed.includes(targetFolder)) {
      faults.push(`imports ${target}: src/${folder} may import ${allowed.join(', ') || 'nothing of ours'}`)
    }
  }
  return faults
}

function placeFaults({ path }: SourceFile): string[] {
  const folder = folderOf(path)
  if (folder === undefined || folder === 'library.ts' || folder in layers) return []
  return [`src/${folder} has no place in the table of layers`]
}

function nameFaults({ path, text }: SourceFile): string[] {
  const name = posix.basename(path).split('.')[0]!
  const faults: string[] = []
  if (emptyNames.has(name)) faults.push(`is called ${name}, which says nothing of what is in it`)
  if (!/^[a-z0-9]+(-[a-z0-9]+)*(\.(test|gen|d|config))?\.ts$/.test(posix.basename(path))) {
    faults.push('is not called in lower case with hyphens')
  }
  const beginning = text.slice(0, 400)
  const generated = /\b(generated|written) (by|with|from) `?(npm|node|bench|src|test|bin|tools?)\b|do not edit/i.test(
    beginning
  )
  if (generated && !path.endsWith('.gen.ts')) faults.push('says that it is generated and is not called .gen.ts')
  if (path.endsWith('.gen.ts') && !generated)
    faults.push('is called .gen.ts and does not name the command that makes it')
  return faults
}

function textFaults({ path, text }: SourceFile): string[] {
  const faults: string[] = []
  const withoutShebang = text.replace(/^#!.*\n/, '')
  if (!/^(\/\/ ?\S|\/\*)/.test(withoutShebang)) faults.push('does not begin with a comment on what it is for')
  const lines = text.split('\n').length - 1
  if (lines > maxLines && !path.endsWith('.gen.ts') && !(path in longFiles)) {
    faults.push(`has ${lines} lines, more than ${maxLines}`)
  }
  const unfinished = /\b(TO[D]O|FIX[M]E|XX[X])\b/.exec(text)
  if (unfinished) faults.push(`says ${unfinished[1]}: do it, or leave it out`)
  const elsewhere = /(^|[\s'"`(])((\/(work|home|Users)\/[\w./-]*)|(\.\.\/shared\b[\w./-]*))/.exec(text)
  if (elsewhere) faults.push(`names ${elsewhere[2]}, which only one machine has`)
  if (folderOf(path) === 'queue' && /\bvms?\b|\bdomains?\b/i.test(text)) {
    faults.push('speaks of VMs: the queue knows tasks, actions and resources')
  }
  return faults
}

/** Everything that breaks a rule, as `path: what is wrong`. Throws when there is nothing to look at. */
export function tidyFaults(files: readonly SourceFile[]): string[] {
  if (files.length === 0) throw new Error('no source file was read: the rules would hold of anything')
  const imports = files.reduce((sum, file) => sum + importsOf(file.text).length, 0)
  if (imports === 0) throw new Error(`no import was found in ${files.length} files: they are not being read`)
  const rules = [placeFaults, importFaults, nameFaults, textFaults]
  return files.flatMap((file) => rules.flatMap((rule) => rule(file).map((fault) => `${file.path}: ${fault}`)))
}
