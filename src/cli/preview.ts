// What a dry run prints: the tasks that would be made and what each would wait for, as text, JSON or a Graphviz graph.
import type { Preview } from '../api/submission.ts'
import { clean } from './render.ts'

type Task = Preview['tasks'][number]

export function previewText(preview: Preview, format: string): string {
  if (format === 'json') return `${JSON.stringify(preview, null, 2)}\n`
  return format === 'dot' ? dot(preview) : text(preview)
}

const nameOf = (preview: Preview, ref: Task['after'][number]['task']): string =>
  typeof ref === 'number' ? `task ${ref}` : `#${ref.index + 1} ${clean(preview.tasks[ref.index]?.title ?? '')}`

function text(preview: Preview): string {
  const lines = preview.tasks.flatMap((task) => [
    `#${task.index + 1} ${clean(task.title)}  (${task.action})${task.irreversible ? '  cannot be undone' : ''}`,
    ...(task.nothingToDo ? [`     nothing to do: ${clean(task.nothingToDo)}`] : []),
    ...task.after.map(
      ({ task: ref, needs, title }) =>
        `     after ${typeof ref === 'number' ? `task ${ref}, ${clean(title)}` : nameOf(preview, ref)} ${needs === 'complete' ? 'is complete' : 'has ended'}`
    ),
    ...task.claims.map(({ resource, mode }) => `     claims ${clean(resource)} ${mode}`)
  ])
  return `${lines.join('\n')}\nNothing was made: this was a dry run.\n`
}

// A label within quotes: backslash and quote are all that DOT wants escaped.
const label = (words: string): string => `"${clean(words).replace(/[\\"]/g, '\\$&')}"`

function dot(preview: Preview): string {
  const lines = ['digraph tasks {', '  rankdir=LR; node [shape=box, fontname="sans-serif"];']
  const outside = new Map<number, string>()
  for (const task of preview.tasks) {
    lines.push(`  n${task.index} [label=${label(task.title)}${task.irreversible ? ', color=red' : ''}];`)
    for (const { task: ref, needs, title } of task.after) {
      if (typeof ref === 'number') outside.set(ref, title)
      const from = typeof ref === 'number' ? `t${ref}` : `n${ref.index}`
      lines.push(`  ${from} -> n${task.index}${needs === 'ended' ? ' [style=dashed]' : ''};`)
    }
  }
  for (const [id, title] of outside) lines.push(`  t${id} [label=${label(`task ${id}: ${title}`)}, style=rounded];`)
  return `${[...lines, '}'].join('\n')}\n`
}
