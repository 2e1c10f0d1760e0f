// What a dry run prints: the tasks that would be made and why each would wait for which, as a tree for people, as data, or as a
// Graphviz graph.
import type { Preview } from '../api/submission.ts'
import { preflightLines } from './preflight.ts'
import type { Printer } from './render.ts'
import { clean, printOne } from './render.ts'

type Task = Preview['tasks'][number]
type Edge = Task['after'][number]

export type PreviewFormat = Printer['format'] | 'text' | 'dot'

export async function printPreview(printer: Printer, preview: Preview, format: PreviewFormat): Promise<void> {
  if (format === 'dot') printer.out.write(dot(preview))
  else if (format === 'jsonl') for (const task of preview.tasks) printer.out.write(`${JSON.stringify(task)}\n`)
  else if (format === 'name') for (const task of preview.tasks) printer.out.write(`${clean(task.title)}\n`)
  else
    await printOne(
      { ...printer, format: format === 'text' ? 'table' : format },
      preview,
      () => '',
      () => text(preview)
    )
}

/** Deeper than this a chain goes on at the left margin: 10,000 in a row are still read. */
const DEEPEST = 12

/** Each task below the last of those that it waits for; the others are said in words. */
function text(preview: Preview): string {
  const below = new Map<number, Task[]>()
  const depths: number[] = []
  const roots: Task[] = []
  for (const task of preview.tasks) {
    const before = parentOf(task)
    const depth = before === undefined ? 0 : (depths[before] ?? 0) + 1
    depths.push(depth % DEEPEST)
    if (before === undefined || depth >= DEEPEST) roots.push(task)
    else below.set(before, [...(below.get(before) ?? []), task])
  }
  const lines: string[] = []
  const print = (task: Task, first: string, rest: string): void => {
    const children = below.get(task.index) ?? []
    lines.push(`${first}${task.index + 1}. ${clean(task.title)} (${task.action})${marks(task)}`)
    for (const line of notes(task, preview)) lines.push(`${rest}${children.length > 0 ? '│' : ' '}    ${line}`)
    for (const [at, child] of children.entries()) {
      const last = at === children.length - 1
      print(child, `${rest}${last ? '└─ ' : '├─ '}`, `${rest}${last ? '   ' : '│  '}`)
    }
  }
  for (const task of roots) print(task, '', '')
  for (const { id, title } of preview.overtakes)
    lines.push(`Would be cancelled to make way: task ${id}, ${clean(title)}`)
  const { length } = preview.tasks
  return `${[...lines, `${length === 1 ? '1 task' : `${length} tasks`}; nothing was made: this was a dry run.`].join('\n')}\n`
}

/** The last element of the submission that it waits for. */
function parentOf(task: Task): number | undefined {
  const earlier = task.after.flatMap(({ task: ref }) => (typeof ref === 'number' ? [] : [ref.index]))
  return earlier.length === 0 ? undefined : Math.max(...earlier)
}

const marks = (task: Task): string => (task.irreversible ? '  ! cannot be undone' : '')

function notes(task: Task, { waitsFor }: Preview): string[] {
  const states = new Map(waitsFor.map(({ id, state }) => [id, state]))
  return [
    ...(task.nothingToDo === null ? [] : [`nothing to do: ${clean(task.nothingToDo)}`]),
    ...(task.later === null ? [] : [`takes its place later: ${clean(task.later)}`]),
    ...task.after.map((edge) => {
      const state = typeof edge.task === 'number' ? states.get(edge.task) : undefined
      const whom =
        typeof edge.task === 'number'
          ? `task ${edge.task}${state === undefined ? '' : ` (${state})`}, ${clean(edge.title)}`
          : `${edge.task.index + 1}`
      return `after ${whom}${edge.needs === 'complete' ? ', which must be complete' : ''}: ${reasons(edge)}`
    }),
    ...preflightLines(task.preflight ?? []),
    ...(task.afterMore > 0 ? [`after ${task.afterMore} more tasks`] : [])
  ]
}

function reasons({ because }: Edge): string {
  const claimed = because.flatMap((why) => (why.kind === 'claim' ? [clean(why.resource)] : []))
  const both =
    claimed.length > 3 ? `${claimed.slice(0, 3).join(', ')} and ${claimed.length - 3} more` : claimed.join(', ')
  return [
    ...(because.some(({ kind }) => kind === 'asked') ? ['asked for'] : []),
    ...(because.some(({ kind }) => kind === 'needs') ? ['possible only thanks to it'] : []),
    ...(claimed.length > 0 ? [`both claim ${both}`] : [])
  ].join('; ')
}

// A label within quotes: backslash and quote are all that DOT wants escaped. https://graphviz.org/doc/info/lang.html
const label = (words: string): string => `"${clean(words).replace(/[\\"]/g, '\\$&')}"`

/** Solid: must be complete. Dashed: pure order. Red: cannot be undone. Rounded: stored tasks. */
function dot({ tasks, waitsFor }: Preview): string {
  const lines = [
    'digraph tasks {',
    '  rankdir=LR; node [shape=box, fontname="sans-serif"]; edge [fontname="sans-serif", fontsize=10];'
  ]
  const states = new Map(waitsFor.map(({ id, state }) => [id, state]))
  const outside = new Map<number, string>()
  for (const task of tasks) {
    lines.push(`  n${task.index} [label=${label(task.title)}${task.irreversible ? ', color=red' : ''}];`)
    for (const edge of task.after) {
      const { task: ref, needs, title } = edge
      if (typeof ref === 'number') outside.set(ref, title)
      const from = typeof ref === 'number' ? `t${ref}` : `n${ref.index}`
      const style = needs === 'ended' ? ', style=dashed' : ''
      lines.push(`  ${from} -> n${task.index} [label=${label(reasons(edge))}${style}];`)
    }
  }
  for (const [id, title] of outside) {
    const state = states.get(id)
    lines.push(
      `  t${id} [label=${label(`task ${id}${state === undefined ? '' : ` (${state})`}: ${title}`)}, style=rounded];`
    )
  }
  return `${[...lines, '}'].join('\n')}\n`
}
