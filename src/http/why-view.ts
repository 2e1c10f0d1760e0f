// Why a task is where it is, in sentences: each reason with what ends it. The facts are the queue's.
import type { TaskState, Why } from '../api/task.ts'
import { limitInWords } from '../actions/limits.ts'
import type { Database } from '../db/open.ts'
import { loadFacts } from '../inventory/load.ts'
import { parseResource, resource } from '../model/resource.ts'
import type { Task } from '../queue/task.ts'
import { why, type TaskBrief, type Why as QueueWhy } from '../queue/why.ts'

type Reason = Why['reasons'][number]

/** @throws QueueError task_not_found */
export async function whyView(database: Database, task: Task): Promise<Why> {
  const found = await why(database, task.id)
  const called = await namesOf(
    database,
    found.claims.map((claim) => claim.resource)
  )
  const reasons = [
    ...heldReasons(found, task.id),
    ...claimReasons(found, called),
    ...prerequisiteReasons(found),
    ...limitReasons(found),
    ...timeReasons(found),
    ...parkedReasons(found),
    ...awaitingReasons(found, task)
  ]
  return { id: task.id, title: task.title, state: task.state, summary: summaryOf(task, found, reasons), reasons }
}

const brief = ({ id, title, state }: TaskBrief): Reason['task'] => ({ id, title, state })
const named = ({ id, title, state }: TaskBrief): string => `task ${id} (${state}), ${title}`
const since = (date: Date | null | undefined) => (date ? { since: date.toISOString() } : {})

function heldReasons({ held }: QueueWhy, id: number): Reason[] {
  if (!held) return []
  return [
    {
      kind: 'held',
      text: `held by ${held.by}: ${held.reason}`,
      ends: `\`taskomatic task release ${id}\``,
      ...since(held.since)
    }
  ]
}

function claimReasons({ claims }: QueueWhy, called: Map<string, string>): Reason[] {
  return claims.map(({ resource: name, mode, heldAs, task, started }) => ({
    kind: 'claim',
    text: `${named(task)}, ${started ? 'holds' : 'comes first and claims'} ${called.get(name) ?? name} ${heldAs}; this task claims it ${mode}`,
    ends: `the end of task ${task.id}`,
    task: brief(task),
    resource: name,
    ...since(task.since)
  })) as Reason[]
}

function prerequisiteReasons({ prerequisites, claims }: QueueWhy): Reason[] {
  const told = new Set(claims.map(({ task }) => task.id))
  // An order that follows from claims has been told with the claim.
  return prerequisites
    .filter(({ derived, task }) => !derived || !told.has(task.id))
    .map(({ task, needs, roots }) => ({
      kind: 'prerequisite',
      text: `${named(task)}, must ${needs === 'complete' ? 'be complete' : 'have ended'} first${roots.length > 0 ? `; it waits in turn for ${roots.map(named).join('; ')}` : ''}`,
      ends:
        needs === 'complete'
          ? `task ${task.id} is complete; if it fails this one fails as well`
          : `the end of task ${task.id}`,
      task: brief(task),
      ...since(task.since)
    })) as Reason[]
}

function limitReasons({ limits }: QueueWhy): Reason[] {
  return limits.map(({ key, units, cap, used, usedBy }) => ({
    kind: 'limit',
    text: `waiting: ${used} of ${cap ?? 'no'} ${limitInWords(key)} (tasks ${usedBy.map(({ id }) => id).join(', ')})${units > 1 ? `; this task needs ${units}` : ''}`,
    ends: 'the end of one of them'
  }))
}

function timeReasons({ due, behindUnplaced }: QueueWhy): Reason[] {
  const reasons: Reason[] = due
    ? [{ kind: 'scheduled', text: `not before ${due.toISOString()}`, ends: 'that time' }]
    : []
  if (behindUnplaced)
    reasons.push({
      kind: 'place',
      text: 'it needs a task that is held or scheduled, and takes its place in the lines after that one',
      ends: 'that task is released or due'
    })
  return reasons
}

function parkedReasons({ parked }: QueueWhy): Reason[] {
  // Said by limitReasons, with who has the units.
  if (!parked || parked.key === 'limit') return []
  const [kind, name] = parked.key.split('/')
  const ends =
    kind === 'host' && name
      ? `host ${name} is up again`
      : parked.key === 'placement'
        ? 'a host has room, or is up again'
        : kind === 'room' && name
          ? `${name} has room`
          : 'what it was parked for is free'
  return [{ kind: 'parked', text: parked.reason, ends, ...since(parked.since) }]
}

function awaitingReasons({ awaiting }: QueueWhy, task: Task): Reason[] {
  if (!awaiting) return []
  if (task.state === 'uncertain') {
    const text = `nobody can tell whether it happened${task.error ? `: ${task.error.message}` : ''}; its claims stay`
    return [{ kind: 'uncertain', text, ends: 'it is looked at again, when its host is up' }]
  }
  const { what, deadline, openChildren } = awaiting
  const reasons: Reason[] = openChildren.map((child) => ({
    kind: 'child',
    text: `its part, ${named(child)}`,
    ends: `the end of task ${child.id}`,
    task: brief(child)
  })) as Reason[]
  if (openChildren.length === 0)
    reasons.push({
      kind: 'awaiting',
      text: `awaits ${what}`,
      ends: deadline ? `that, or ${deadline.toISOString()}, when it is looked at` : 'that'
    })
  return reasons
}

function summaryOf(task: Task, found: QueueWhy, reasons: readonly Reason[]): string {
  const ended: Partial<Record<TaskState, string>> = {
    complete: 'It is complete.',
    failed: `It failed: ${task.error?.message ?? 'without a reason'}`,
    cancelled: `It was cancelled${task.error ? `: ${task.error.message}` : ''}.`
  }
  const end = ended[task.state]
  if (end) return end
  if (found.cancelRequested) return `${found.cancelRequested.by} asked to cancel it; it is being stopped.`
  if (task.state === 'ready') return 'Nothing is in its way: it waits for a free worker slot.'
  if (task.state === 'running')
    return `It runs${task.startedAt ? `, since ${task.startedAt.toISOString()}` : ''}: attempt ${task.attempts}.`
  const [first, ...more] = reasons
  if (!first) return 'It is about to go on.'
  return `It is ${task.state}: ${first.text}${more.length > 0 ? `; and for ${more.length} more ${more.length === 1 ? 'reason' : 'reasons'}` : ''}.`
}

/** `vm/UUID` means little to people: with the VM's name where the inventory has it. */
async function namesOf(database: Database, resources: readonly string[]): Promise<Map<string, string>> {
  const vms = [...new Set(resources)].filter((name) => parseResource(name)?.kind === 'vm').slice(0, 100)
  const facts = vms.length === 0 ? new Map() : await loadFacts(database, vms)
  return new Map(
    vms.map((name) => {
      const vm = facts.get(name) as { name?: string; uuid?: string } | null | undefined
      return [name, vm?.name === undefined ? name : `VM ${vm.name} (${resource.vm(vm.uuid ?? '')})`]
    })
  )
}
