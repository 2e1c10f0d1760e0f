// The simulators' journal held against the queue's history: the effect of each complete task happened once and in the tasks' order,
// nothing happened that no task did, and the hosts now have what the last tasks say. Shares nothing with src.
import { expectedOf, happeningsIn, namesOf, powerLost, type Entry, type Expected, type Happened } from './effects-of.ts'
import { judgeEnd, type Now } from './effects-end.ts'
import type { HistoryTask } from './history.ts'

export type EffectFindings = {
  /** Happened more often than tasks account for. */
  double: string[]
  /** Complete, and it did not happen, or is not so. */
  falseCompletions: string[]
  /** Happened in another order than the tasks'. */
  disorder: string[]
  twoWriters: string[]
  overCommitted: string[]
}

export type Done = { task: HistoryTask; expected: Expected }

/** One thing that tasks change: what was to happen to it, in order, and what did. */
export type Story = { subject: string; tasks: Done[]; happened: Happened[] }

export function judgeEffects(tasks: readonly HistoryTask[], journal: readonly Entry[], now: Now): EffectFindings {
  const found: EffectFindings = { double: [], falseCompletions: [], disorder: [], twoWriters: [], overCommitted: [] }
  for (const { seq, name, host, detail, twoWriters, overCommitted } of journal) {
    if (twoWriters) found.twoWriters.push(`entry ${seq}: ${name} on ${host}: ${detail}`)
    if (overCommitted) found.overCommitted.push(`entry ${seq}: ${name} on ${host}`)
  }
  for (const story of storiesOf(tasks, journal)) {
    if (!accounts(story)) complain(story, found)
    found.falseCompletions.push(...judgeEnd(story, now))
  }
  return found
}

function storiesOf(tasks: readonly HistoryTask[], journal: readonly Entry[]): Iterable<Story> {
  const stories = new Map<string, Story>()
  const names = namesOf(tasks)
  // Tasks of one thing exclude each other: they end in the order in which they ran.
  const ran = tasks.filter(({ attempts }) => attempts > 0)
  ran.sort((a, b) => (a.endedAt ?? Infinity) - (b.endedAt ?? Infinity))
  for (const task of ran)
    for (const expected of expectedOf(task, names)) {
      const story = stories.get(expected.subject) ?? { subject: expected.subject, tasks: [], happened: [] }
      stories.set(expected.subject, story)
      story.tasks.push({ task, expected })
    }
  for (const happened of happeningsIn(journal)) stories.get(happened.subject)?.happened.push(happened)
  return stories.values()
}

/** A host that lost its power did what a task was to do: it found nothing to do, and was right. */
const excused = ({ task }: Done, powerWasLost: boolean): boolean =>
  powerWasLost && typeof task.result === 'object' && task.result !== null && 'nothingToDo' in task.result

/** The effects that a task may have had. */
function mayHaveDone(done: Done, powerWasLost: boolean): string[][] {
  const { effects, back } = done.expected
  if (done.task.outcome === 'complete') {
    // It may have been done, taken back and done again.
    const again = back === undefined ? [] : [[...effects, back, ...effects]]
    return [effects, ...again, ...(excused(done, powerWasLost) ? [[]] : [])]
  }
  const begun = Array.from({ length: effects.length + 1 }, (_, length) => effects.slice(0, length))
  return back === undefined ? begun : [...begun, [...effects, back]]
}

/** Whether what happened is just what the tasks did, one after the other. */
function accounts({ tasks, happened }: Story): boolean {
  const effects = happened.map(({ effect }) => effect).filter((effect) => effect !== powerLost)
  const power = effects.length < happened.length
  let reached = new Set([0])
  for (const done of tasks) {
    const next = new Set<number>()
    for (const from of reached)
      for (const way of mayHaveDone(done, power))
        if (way.every((effect, at) => effects[from + at] === effect)) next.add(from + way.length)
    reached = next
  }
  return reached.has(effects.length)
}

/** Without those in which something is taken back, where nothing was. */
function waysIn(happened: readonly Happened[], done: Done, powerWasLost: boolean): string[][] {
  const ways = mayHaveDone(done, powerWasLost)
  const { back } = done.expected
  return happened.some(({ effect }) => effect === back)
    ? ways
    : ways.filter((way) => !way.some((each) => each === back))
}

function complain(story: Story, found: EffectFindings): void {
  const { subject, tasks, happened } = story
  const power = happened.some(({ effect }) => effect === powerLost)
  const told = `${subject}: tasks ${tasks.map(({ task }) => `${task.id} ${task.action} ${task.outcome ?? 'open'}`).join(', ')}; happened: ${happened
    .map(({ effect, entry }) => `${effect} on ${entry.host}`)
    .join(', ')}`
  let explained = false
  for (const effect of new Set([
    ...tasks.flatMap(({ expected }) => expected.effects),
    ...happened.map((h) => h.effect)
  ])) {
    if (effect === powerLost) continue
    const times = happened.filter((one) => one.effect === effect).length
    const count = (done: Done, pick: (...counts: number[]) => number) =>
      pick(...waysIn(happened, done, power).map((way) => way.filter((each) => each === effect).length))
    const least = tasks.reduce((sum, done) => sum + count(done, Math.min), 0)
    const most = tasks.reduce((sum, done) => sum + count(done, Math.max), 0)
    if (times > most) found.double.push(`${effect} ${times} times, ${most} at most: ${told}`)
    if (times < least) found.falseCompletions.push(`${effect} ${times} times, ${least} at least: ${told}`)
    explained ||= times > most || times < least
  }
  if (!explained) found.disorder.push(told)
}
