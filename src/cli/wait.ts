// Waiting for tasks: long polls, so that an end is heard when it happens. Ctrl-C leaves the tasks alone.
import type { PlanView, TaskSummary, TaskView } from '../api/task.ts'
import type { Cli } from './context.ts'
import { CliError, type ExitName } from './failure.ts'
import { clean, paint, printList } from './render.ts'
import { hasEnded, problemLines, taskView, toneOf } from './tasks.ts'

export type WaitOptions = { timeoutSeconds?: number | undefined; plan?: number | null }

/** Seconds a long poll takes at most; the server answers sooner when something has ended. */
const POLL_SECONDS = 25
/** Of larger plans the plan is watched, not each task. */
const WATCHED_ONE_BY_ONE = 50

/** Waits until all have ended, prints them, and answers by how they ended. */
export async function waitForTasks(cli: Cli, ids: readonly number[], options: WaitOptions = {}): Promise<ExitName> {
  const deadline =
    options.timeoutSeconds === undefined ? Number.POSITIVE_INFINITY : Date.now() + options.timeoutSeconds * 1000
  let outcome: 'ended' | 'timeout' | 'interrupted'
  try {
    if (options.plan != null && ids.length > WATCHED_ONE_BY_ONE) outcome = await planEnds(cli, options.plan, deadline)
    else outcome = await allEnd(cli, ids, deadline)
  } catch (error) {
    if (!cli.interrupted.aborted) throw error
    outcome = 'interrupted'
  }
  const handle =
    options.plan != null ? `taskomatic plan wait ${options.plan}` : `taskomatic task wait ${ids.slice(0, 20).join(' ')}`
  if (outcome === 'interrupted') {
    cli.say(`detached: what was asked for goes on. To wait again: ${handle}`)
    return 'interrupted'
  }
  const rows = await printTasks(cli, ids)
  if (outcome === 'timeout') {
    cli.say(`not ended within ${options.timeoutSeconds} s; it goes on. To wait again: ${handle}`)
    return 'timeout'
  }
  return exitOf(rows)
}

function exitOf(rows: readonly { state: string }[]): ExitName {
  if (rows.some(({ state }) => state === 'failed')) return 'taskFailed'
  if (rows.some(({ state }) => state === 'cancelled')) return 'cancelled'
  return 'done'
}

const secondsLeft = (deadline: number): number =>
  Math.max(0, Math.min(POLL_SECONDS, Math.ceil((deadline - Date.now()) / 1000)))

async function allEnd(
  cli: Cli,
  ids: readonly number[],
  deadline: number
): Promise<'ended' | 'timeout' | 'interrupted'> {
  const seen = new Map<number, string>()
  const watchers = ids.map(async (id) => {
    for (;;) {
      if (cli.interrupted.aborted) return 'interrupted' as const
      const before = seen.get(id)
      const task = await cli
        .client()
        .get<TaskView>(`/tasks/${id}`, before === undefined ? {} : { wait: secondsLeft(deadline), not: before }, {
          signal: cli.interrupted
        })
      if (task.state !== before) tell(cli, task)
      seen.set(id, task.state)
      if (hasEnded(task.state)) return 'ended' as const
      if (Date.now() >= deadline) return 'timeout' as const
    }
  })
  const outcomes = await Promise.all(watchers)
  return outcomes.find((outcome) => outcome !== 'ended') ?? 'ended'
}

async function planEnds(cli: Cli, id: number, deadline: number): Promise<'ended' | 'timeout' | 'interrupted'> {
  for (;;) {
    if (cli.interrupted.aborted) return 'interrupted'
    const plan = await cli
      .client()
      .get<PlanView>(`/plans/${id}`, { wait: secondsLeft(deadline) }, { signal: cli.interrupted })
    cli.say(
      `plan ${id}: ${Object.entries(plan.counts)
        .map(([state, count]) => `${count} ${state}`)
        .join(', ')}`
    )
    if (plan.ended) return 'ended'
    if (Date.now() >= deadline) return 'timeout'
  }
}

function tell(cli: Cli, task: TaskView): void {
  const color = cli.color && cli.err.isTTY === true
  cli.say(
    `task ${task.id}: ${paint(task.state, toneOf(task.state), color)}${task.note && !task.error ? ` (${clean(task.note)})` : ''}`
  )
  // An earlier attempt's error stays on a task that is tried again.
  if (task.error && (hasEnded(task.state) || task.state === 'uncertain'))
    for (const line of problemLines(task.error)) cli.say(`  ${line}`)
}

/** Prints the tasks' present state, and answers it. */
export async function printTasks(cli: Cli, ids: readonly number[]): Promise<TaskSummary[]> {
  const rows: TaskSummary[] = []
  for (let at = 0; at < ids.length; at += 100) {
    const page = await cli
      .client()
      .get<{ items: TaskSummary[] }>('/tasks', { id: ids.slice(at, at + 100).join(','), limit: 100 })
    rows.push(...page.items.toSorted((a, b) => a.id - b.id))
  }
  if (rows.length < ids.length)
    throw new CliError('conflict', 'some of the tasks are gone', { next: 'see `taskomatic task list`' })
  await printList(cli, rows, taskView)
  return rows
}
