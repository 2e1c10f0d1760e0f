// What comes before a task runs: its facts as observed, where it runs, its final claims and units, and whether it is still possible.
import { mergeClaims } from '../actions/evaluate.ts'
import type { Action, Binding as Where, Outcome, Verdict } from '../actions/action.ts'
import type { JsonObject } from '../db/json.ts'
import type { Database, Tx } from '../db/open.ts'
import { FleetState, NotLoaded } from '../inventory/fleet-state.ts'
import { loadFacts } from '../inventory/load.ts'
import { noteUnbound } from '../queue/bind.ts'
import { bind, type ClaimedTask } from '../queue/dispatch.ts'
import type { TaskError } from '../queue/task.ts'
import { keepUndo } from '../queue/undo.ts'
import { plainPlace, plainStart, undoStep, type LoadFacts, type Together } from './start-together.ts'
import { withStoreRoom } from './store-room.ts'
import { boundPlace, chooseHost, nowhere, type Choice, type Place } from './choose-host.ts'

export type Preparation = {
  database: Database
  dispatcher: number
  together: Together
  /** Looks things up on their hosts again, before a task is failed for what the inventory says. */
  refresh(claims: readonly { resource: string }[], boundHost: string | null): Promise<void>
}

export type Prepared =
  /** nothingToDo: why, by what was observed before it ran. */
  | { outcome: 'ready'; state: FleetState; place: Place; nothingToDo?: string | undefined }
  | { outcome: 'end'; end: Exclude<Outcome, { outcome: 'expand' }> }
  /** It went back to waiting, or is no longer ours. */
  | { outcome: 'gone' }

/** With whatever else is about to start; undefined where it is not that simple. */
async function startPlainly(
  { together }: Preparation,
  facts: TaskFacts,
  task: ClaimedTask,
  action: Action,
  to: Where | null
): Promise<Prepared | undefined> {
  const where = plainPlace(task, action, to)
  if (!where) return undefined
  const { place, room } = where
  const asked = await facts.ask((state) => plainStart(task, action, state), place)
  if (!asked || !(await together.start({ task, place, room, binding: asked.binding }))) return undefined
  return { outcome: 'ready', state: facts.state(place), place, nothingToDo: asked.nothingToDo }
}

export async function prepare(parts: Preparation, task: ClaimedTask, action: Action): Promise<Prepared> {
  const facts = new TaskFacts(parts.together.load, task)
  // What an earlier attempt did was done where it was bound, and it has its claims.
  const before = task.takenOver ? boundPlace(task) : nowhere
  if (task.children)
    return { outcome: 'ready', state: await facts.forRun(action, boundPlace(task)), place: boundPlace(task) }
  if (before.host !== null) return { outcome: 'ready', state: await facts.forRun(action, before), place: before }
  let place = nowhere
  if (action.bindTo) {
    const to = await facts.ask((state) => action.bindTo?.(task.args, state) ?? null, boundPlace(task))
    const plain = await startPlainly(parts, facts, task, action, to)
    if (plain) return plain
    const choice = await parts.database.transaction(async (tx) => {
      const within = facts.within(tx)
      const choose = () => chooseHost(tx, task, to, (question) => within.ask(question, boundPlace(task)))
      const made = await withStoreRoom(tx, {
        task: task.id,
        before: boundPlace(task),
        makes: (state) => action.makesVolumes?.(task.args, state) ?? [],
        ask: (question, at) => within.ask(question, at),
        choose
      })
      return made.outcome === 'chosen' ? bound(parts, tx, within, task, action, made) : made
    })
    if (choice === 'gone') return { outcome: 'gone' }
    if (choice.outcome === 'no_room') {
      await noteUnbound(parts.database, { ...attemptOf(parts, task), about: choice.about })
      return { outcome: 'end', end: { outcome: 'park', reason: choice.reason, key: choice.key } }
    }
    place = choice.place
  }
  const { error, nothingToDo } = await checked(parts, facts, task, action, place)
  if (error) return { outcome: 'end', end: { outcome: 'failed', error } }
  if (task.plan !== null && action.undo) await keepUndoStep(parts, facts, task, action, place, nothingToDo)
  return { outcome: 'ready', state: facts.state(place), place, nothingToDo }
}

/** Parts of plans may have to be undone: how, is written before anything is done. */
async function keepUndoStep(
  { database }: Preparation,
  facts: TaskFacts,
  { id, attempt, args }: ClaimedTask,
  action: Action,
  place: Place,
  nothingToDo: string | undefined
): Promise<void> {
  const step = await facts.ask((state) => undoStep(action, args, state, nothingToDo), place)
  await keepUndo(database, { task: id, attempt, step })
}

const attemptOf = ({ dispatcher }: Preparation, { id, attempt }: ClaimedTask) => ({ dispatcher, task: id, attempt })

async function bound(
  parts: Preparation,
  tx: Tx,
  facts: TaskFacts,
  task: ClaimedTask,
  action: Action,
  choice: Extract<Choice, { outcome: 'chosen' }>
): Promise<Extract<Choice, { outcome: 'chosen' }> | 'gone'> {
  const { claims, limits } = await facts.ask(
    (state) => ({
      claims: mergeClaims(action.claims(task.args, state)),
      limits: action.limits?.(task.args, state)
    }),
    choice.place
  )
  const answer = await bind(tx, {
    ...attemptOf(parts, task),
    claims,
    bound: choice.bound,
    ...(limits ? { limits } : {})
  })
  return answer.outcome === 'started' ? choice : 'gone'
}

/**
 * The verdict on observed facts; only `impossible` decides, since whether there is nothing to do is for the host to say.
 * What looks impossible is looked up on the host first: the inventory may lag behind.
 */
async function checked(
  parts: Preparation,
  facts: TaskFacts,
  task: ClaimedTask,
  action: Action,
  place: Place
): Promise<{ error?: TaskError; nothingToDo?: string }> {
  const ask = () =>
    facts.ask((state) => ({ verdict: action.check(task.args, state), claims: action.claims(task.args, state) }), place)
  const first = await ask()
  if (first.verdict.verdict !== 'impossible') return whyNothing(first.verdict)
  await parts.refresh(first.claims, place.host)
  facts.forget()
  const { verdict } = await ask()
  if (verdict.verdict !== 'impossible') return whyNothing(verdict)
  return { error: { code: verdict.code, message: verdict.message, step: 'check', next: verdict.next } }
}

const whyNothing = (verdict: Verdict) => (verdict.verdict === 'nothing_to_do' ? { nothingToDo: verdict.why } : {})

/** Facts lead to further facts (a VM to its disks, these to their stores); each round loads at least one more. */
const maxLoadRounds = 100

/** Observed facts of what one task reads, loaded as it reads them. */
export class TaskFacts {
  readonly #load: LoadFacts
  readonly #task: ClaimedTask
  readonly #base: Map<string, JsonObject | null>

  constructor(load: LoadFacts, task: ClaimedTask, base = new Map<string, JsonObject | null>()) {
    this.#load = load
    this.#task = task
    this.#base = base
  }

  /** The same facts; what is missing is loaded in the transaction. */
  within(tx: Tx): TaskFacts {
    return new TaskFacts((subjects) => loadFacts(tx, subjects), this.#task, this.#base)
  }

  forget(): void {
    this.#base.clear()
  }

  state(place: Place): FleetState {
    return new FleetState({ phase: 'starting', base: this.#base, boundHost: place.host, boundTarget: place.target })
  }

  /** Asks a pure function, loading what it reads until nothing is missing. */
  async ask<T>(ask: (state: FleetState) => T, place: Place): Promise<T> {
    for (let round = 0; round < maxLoadRounds; round++) {
      try {
        return ask(this.state(place))
      } catch (error) {
        if (!(error instanceof NotLoaded)) throw error
        for (const [subject, facts] of await this.#load(error.subjects)) this.#base.set(subject, facts)
      }
    }
    const { id, action } = this.#task
    throw new Error(`facts of task ${id} (${action}) led to further facts ${maxLoadRounds} times`)
  }

  /** With what the action reads; whether it is possible does not matter once it may have happened. */
  async forRun(action: Action, place: Place): Promise<FleetState> {
    const { args } = this.#task
    await this.ask((state) => [action.check(args, state), action.claims(args, state)], place)
    return this.state(place)
  }
}
