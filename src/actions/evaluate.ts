// Asks actions' pure functions about a whole submission, one task after another, each seeing the effects of those before.
// What they read and is not loaded yet is collected, so that one round of loading serves all tasks.
// To learn which open task a request depends on, or fails by, it is asked again without that task's effects.
import type { JsonObject } from '../db/json.ts'
import { FleetState, NotLoaded, type Overlay } from '../inventory/fleet-state.ts'
import type { Claim, Effect, Units } from '../queue/task.ts'
import type { Action, Verdict } from './action.ts'
import { resolveRefs } from './refs.ts'
import { RequestError } from './request-error.ts'

/** One element of a submission, its arguments checked against the schema and prepared. */
export type Asked = { action: Action; args: JsonObject }

/** Facts as loaded: what hosts said, and what open tasks will make of it, in the queue's order. */
export type Loaded = {
  base: ReadonlyMap<string, JsonObject | null>
  overlays: ReadonlyMap<string, readonly Overlay[]>
}

/** An open task by its id, or an earlier element of the same submission. */
export type Author = number | { index: number }

export type Evaluated = {
  action: Action
  args: JsonObject
  title: string
  claims: Claim[]
  effects: Effect[]
  limits: Units[]
  verdict: Verdict
  /** Tasks without which this request would be impossible: they must be complete first. */
  thanksTo: Author[]
}

export type Evaluation =
  | { missing: ReadonlySet<string> }
  | { missing: null; tasks: Evaluated[]; refusals: { index: number; error: RequestError }[] }

type Answer = Omit<Evaluated, 'thanksTo'> & { reads: ReadonlySet<string> }
type Refused = { refused: RequestError; reads: ReadonlySet<string> }

export function evaluatePlan(asked: readonly Asked[], loaded: Loaded): Evaluation {
  const missing = new Set<string>()
  const tasks: Evaluated[] = []
  const refusals: { index: number; error: RequestError }[] = []
  const overlays = new Map([...loaded.overlays].map(([subject, list]) => [subject, [...list]]))
  for (const [index, item] of asked.entries()) {
    try {
      const view = { base: loaded.base, overlays }
      const answer = ask(item, view)
      if ('refused' in answer) {
        refusals.push({ index, error: blame(item, view, answer) })
        continue
      }
      const { reads: _, ...task } = answer
      tasks.push({ ...task, thanksTo: thanksTo(item, view, answer) })
      for (const effect of answer.effects) {
        const list = overlays.get(effect.subject) ?? []
        overlays.set(effect.subject, list)
        list.push({ task: provisional(index), title: answer.title, subject: effect.subject, facts: effect.facts })
      }
    } catch (error) {
      if (!(error instanceof NotLoaded)) throw error
      for (const subject of error.subjects) missing.add(subject)
    }
  }
  return missing.size > 0 ? { missing } : { missing: null, tasks, refusals }
}

/** @throws NotLoaded */
function ask({ action, args: raw }: Asked, { base, overlays }: Loaded, without?: number | string): Answer | Refused {
  const state = new FleetState({ phase: 'queued', base, overlays, ...(without === undefined ? {} : { without }) })
  const refused = (error: RequestError) => ({ refused: error, reads: state.reads })
  try {
    const resolved = resolveRefs(action.args, raw, state)
    const args = (action.fillIn?.(resolved, state) ?? resolved) as JsonObject
    const verdict = action.check(args, state)
    if (verdict.verdict === 'impossible') {
      const { code, message, next } = verdict
      return refused(new RequestError(code, message, { pointer: '', next, status: 'conflict' }))
    }
    return {
      action,
      args,
      title: action.title(args, state),
      claims: mergeClaims(action.claims(args, state)),
      effects: action.effect(args, state),
      limits: action.limits?.(args, state) ?? [],
      verdict,
      reads: state.reads
    }
  } catch (error) {
    if (error instanceof RequestError) return refused(error)
    throw error
  }
}

function thanksTo(item: Asked, view: Loaded, answer: Answer): Author[] {
  return authors(answer.reads, view.overlays)
    .filter((author) => 'refused' in ask(item, view, author.task))
    .map((author) => asAuthor(author.task))
}

/** Adds the open task but for which the request would have been possible. */
function blame(item: Asked, view: Loaded, answer: Refused): RequestError {
  const culprit = authors(answer.reads, view.overlays).find((author) => !('refused' in ask(item, view, author.task)))
  if (!culprit) return answer.refused
  const at = asAuthor(culprit.task)
  const name = typeof at === 'number' ? `task ${at}` : `element ${at.index} of this submission`
  return new RequestError(answer.refused.code, `${answer.refused.message}: ${name} comes first (${culprit.title})`, {
    pointer: answer.refused.pointer,
    next:
      typeof at === 'number'
        ? `wait for the task, or cancel it: \`taskomatic task cancel ${at}\``
        : answer.refused.next,
    status: 'conflict',
    candidates: answer.refused.candidates,
    ...(typeof at === 'number' ? { task: { id: at, title: culprit.title } } : {})
  })
}

function authors(reads: ReadonlySet<string>, overlays: Loaded['overlays']): Overlay[] {
  const found = new Map<number | string, Overlay>()
  for (const subject of reads) for (const overlay of overlays.get(subject) ?? []) found.set(overlay.task, overlay)
  return [...found.values()]
}

const provisional = (index: number): string => `#${index}`

const asAuthor = (task: number | string): Author => (typeof task === 'number' ? task : { index: Number(task.slice(1)) })

/** One claim a resource, exclusive winning over shared, in order of name. */
export function mergeClaims(claims: readonly Claim[]): Claim[] {
  const byResource = new Map<string, Claim>()
  for (const claim of claims) {
    if (byResource.get(claim.resource)?.mode !== 'exclusive') byResource.set(claim.resource, claim)
  }
  return [...byResource.values()].toSorted((a, b) => (a.resource < b.resource ? -1 : 1))
}
