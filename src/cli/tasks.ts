// How tasks look in a terminal. The words of states are the server's.
import type { LogLine, TaskProblem, TaskSummary, TaskView, Why } from '../api/task.ts'
import { ageText, bytesText, clean, sheet, type Tone, type View } from './render.ts'

const ended = new Set(['complete', 'failed', 'cancelled'])
export const hasEnded = (state: string): boolean => ended.has(state)

export function toneOf(state: string): Tone | undefined {
  if (state === 'complete') return 'good'
  if (state === 'failed' || state === 'uncertain') return 'bad'
  if (state === 'running' || state === 'awaiting' || state === 'cancelling') return 'busy'
  return state === 'cancelled' ? 'dim' : undefined
}

export const taskView: View<TaskSummary> = {
  plural: 'tasks',
  name: (task) => String(task.id),
  columns: [
    { title: 'ID', value: (task) => task.id, align: 'right' },
    { title: 'STATE', value: (task) => task.state, tone: (task) => toneOf(task.state) },
    { title: 'TITLE', value: (task) => task.title },
    { title: 'AGE', value: (task) => ageText(task.submittedAt), align: 'right' },
    { title: 'NOTE', value: (task) => task.note ?? '' },
    { title: 'ACTION', value: (task) => task.action, wide: true },
    { title: 'PLAN', value: (task) => task.plan, wide: true, align: 'right' },
    { title: 'BY', value: (task) => task.by, wide: true },
    { title: 'STARTED', value: (task) => task.startedAt, wide: true },
    { title: 'ENDED', value: (task) => task.endedAt, wide: true }
  ]
}

/** Cause, step and way out, a line each. */
export function problemLines(problem: TaskProblem): string[] {
  const lines = [`${clean(problem.message)} (${clean(problem.code)})`]
  for (const cause of problem.causes ?? [])
    lines.push(`because: ${clean(cause.message)}${cause.code ? ` (${clean(cause.code)})` : ''}`)
  if (problem.step) lines.push(`while: ${clean(problem.step)}`)
  if (problem.next) lines.push(`next: ${clean(problem.next)}`)
  return lines
}

const json = (value: unknown): string | undefined =>
  value === null || value === undefined || (typeof value === 'object' && Object.keys(value).length === 0)
    ? undefined
    : JSON.stringify(value)

const fieldOf = (value: unknown, key: string): unknown =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[key] : undefined
const hostOf = (bound: unknown): string | undefined => {
  const host = fieldOf(bound, 'host')
  return typeof host === 'string' ? host : undefined
}
/** Placement's answer: every host, and why it was or was not chosen. */
function considered(bound: unknown): string | undefined {
  const placement = fieldOf(bound, 'considered')
  const listOf = (key: string) => {
    const list = fieldOf(placement, key)
    return Array.isArray(list) ? (list as unknown[]) : []
  }
  const more = Number(fieldOf(placement, 'more') ?? 0)
  const lines = [
    ...listOf('hosts').map((host) => `${String(fieldOf(host, 'host'))}: ${String(fieldOf(host, 'why'))}`),
    ...listOf('stores').map((store) => `store ${String(fieldOf(store, 'store'))}: ${String(fieldOf(store, 'why'))}`)
  ]
  if (lines.length === 0) return undefined
  return [...lines, ...(more > 0 ? [`and ${more} more`] : [])].join('\n')
}

/** `1.5GiB of 4GiB (37 %), 12 s left`; of what cannot be read so, the JSON. */
export function progressText(progress: unknown): string | undefined {
  const [done, total, unit, note] = ['done', 'total', 'unit', 'note'].map((key) => fieldOf(progress, key))
  if (typeof done !== 'number' || typeof unit !== 'string') return json(progress)
  const amount = (value: number) => (unit === 'bytes' ? bytesText(value) : String(value))
  const whole = typeof total === 'number' ? ` of ${amount(total)}` : ''
  const share = typeof total === 'number' && total > 0 ? ` (${Math.floor((100 * done) / total)} %)` : ''
  return `${amount(done)}${whole}${unit === 'bytes' ? '' : ` ${unit}`}${share}${typeof note === 'string' && note !== '' ? `, ${note}` : ''}`
}

export const taskSheet = (task: TaskView): string =>
  sheet([
    ['Task', `${task.id}  ${task.title}`],
    ['State', task.note && !task.error ? `${task.state}: ${task.note}` : task.state],
    ['Error', task.error ? problemLines(task.error).join('\n') : undefined],
    ['Details', json(task.error?.details)],
    ['Action', `${task.action} ${JSON.stringify(task.args)}`],
    ['Host', hostOf(task.bound)],
    ['Considered', considered(task.bound)],
    [
      'Cancel asked',
      task.cancelRequested
        ? `by ${task.cancelRequested.by} at ${task.cancelRequested.at}${task.cancelRequested.reason ? `: ${task.cancelRequested.reason}` : ''}`
        : undefined
    ],
    ['Progress', progressText(task.progress)],
    ['Result', json(task.result)],
    ['Found', json(task.evidence)],
    ['Submitted', `${task.submittedAt} by ${task.by}`],
    ['Reason', task.reason],
    ['Not before', task.notBefore],
    ['Started', task.startedAt],
    ['Ended', task.endedAt],
    ['Attempts', task.attempt > 1 ? task.attempt : undefined],
    ['Priority', task.priority === 0 ? undefined : task.priority],
    ['Plan', task.plan],
    ['Part of', task.parent === null ? undefined : `task ${task.parent}`],
    ['Undo', task.undo === 'none' ? undefined : task.undo],
    [
      'After',
      task.after
        .map(
          ({ id, title, state, needs }) =>
            `task ${id} (${state}), ${needs === 'complete' ? 'must be complete' : 'must have ended'}: ${title}`
        )
        .join('\n')
    ],
    ['Claims', task.claims.map(({ resource, mode }) => `${resource} ${mode}`).join('\n')],
    ['Children', task.children.map(({ id, title, state }) => `task ${id} (${state}): ${title}`).join('\n')]
  ])

export function whyText(why: Why): string {
  const lines = [`task ${why.id} (${why.state}): ${clean(why.title)}`, clean(why.summary)]
  for (const { text, ends, since } of why.reasons) {
    lines.push(`- ${clean(text)}${since ? ` (since ${ageText(since)})` : ''}`)
    if (ends) lines.push(`    ends: ${clean(ends)}`)
  }
  return `${lines.join('\n')}\n`
}

export const logText = (line: LogLine): string =>
  `${line.at}  ${line.level.padEnd(5)}  ${clean(line.message)}${line.data === undefined || line.data === null ? '' : `  ${JSON.stringify(line.data)}`}\n`
