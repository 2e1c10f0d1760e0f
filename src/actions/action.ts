// What an action is: one file that declares data and a few functions (see docs/architecture.md, "Actions").
// Pure functions (claims, check, effect, title) see the fleet through FleetState; run and probe act through the context.
import type { Static, TObject } from 'typebox'
import type { Json, JsonObject } from '../db/json.ts'
import type { Sql } from '../db/open.ts'
import type { Host } from '../host/host.ts'
import type { DumpedSnapshot } from '../host/snapshots.ts'
import type { StartsWithHost, VmFacts } from '../inventory/facts.ts'
import type { Need } from '../inventory/candidates.ts'
import type { ImageFacts } from '../inventory/facts.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import type { ObservedVm } from '../model/vm.ts'
import type { VolumeNeed } from '../inventory/store-room.ts'
import type { EndedChild } from '../queue/dispatch.ts'
import type { Staging } from '../staging/staging.ts'
import type { Claim, Effect, NewTask, TaskError, Units } from '../queue/task.ts'
import type { UndoState } from '../queue/state.ts'
import type { BalanceAsked, ProposedMove } from './balance.ts'
import type { PlannedChildren } from './children.ts'
import type { Clearing } from './clearing.ts'
import type { RequestedTask } from './submission.ts'

/** Is the request possible? `nothingToDo` completes at run time without touching the host. */
export type Verdict =
  | { verdict: 'possible' }
  | { verdict: 'nothing_to_do'; why: string }
  | { verdict: 'impossible'; code: string; message: string; next: string }

export const possible: Verdict = { verdict: 'possible' }
export const nothingToDo = (why: string): Verdict => ({ verdict: 'nothing_to_do', why })
/** @param code stable snake_case; @param message names the value and the rule; @param next is the way out. */
export const impossible = (code: string, message: string, next: string): Verdict => ({
  verdict: 'impossible',
  code,
  message,
  next
})

export type Outcome =
  | { outcome: 'complete'; result: Json }
  | { outcome: 'failed'; error: TaskError }
  | { outcome: 'cancelled'; error: TaskError }
  | { outcome: 'retry'; afterMs: number; error: TaskError }
  | { outcome: 'park'; reason: string; key: string }
  | { outcome: 'awaiting'; what: string; deadlineMs: number }
  | { outcome: 'expand'; children: NewTask[] }
  | { outcome: 'uncertain'; error: TaskError; evidence: Json }

export const complete = (result: Json = null): Outcome => ({ outcome: 'complete', result })
export const failed = (error: TaskError): Outcome => ({ outcome: 'failed', error })
export const cancelled = (error: TaskError): Outcome => ({ outcome: 'cancelled', error })
export const retry = (afterMs: number, error: TaskError): Outcome => ({ outcome: 'retry', afterMs, error })
export const park = (reason: string, key: string): Outcome => ({ outcome: 'park', reason, key })
export const expand = (children: NewTask[]): Outcome => ({ outcome: 'expand', children })
export const uncertain = (error: TaskError, evidence: Json): Outcome => ({ outcome: 'uncertain', error, evidence })

export type Probe =
  | { happened: 'yes'; evidence: Json; result: Json }
  /** `ended`: how it ended, where it had begun for certain and is not to be tried again of our own accord. */
  | { happened: 'no'; evidence: Json; ended?: TaskError }
  /** `error`: what is told of the task from now on, e.g. since a host has answered meanwhile. */
  | { happened: 'unknown'; evidence: Json; why: string; error?: TaskError }

/** Looks at a VM that began after it was followed; each is recorded. */
export interface Following {
  /**
   * The first look at which it holds. Woken by the VM's events, and looks by itself as well.
   * @throws HostError `timeout`, `aborted`, or what the host did
   */
  until(
    holds: (vm: ObservedVm | undefined) => boolean,
    options: { timeoutMs: number; signal: AbortSignal }
  ): Promise<ObservedVm | undefined>
  /** May be called twice. */
  end(): void
}

/** What the action may do to the database: tell the inventory what it saw, before it says that it is complete. */
export interface Observer {
  /** Looks the VM up on the host and records what was seen; absent counts too. */
  vm(host: string, uuid: string): Promise<void>
  /** Follows the VM from now on: before something is sent that will change it. Always end it. */
  follow(host: string, uuid: string): Following
  pool(host: string, pool: string): Promise<void>
  host(host: string): Promise<void>
  /** Forgets a host and everything observed only there; unless VMs may run there, whose names it answers. */
  forgetHost(host: string): Promise<readonly string[]>
  addHost(host: {
    name: string
    uuid: string
    controlUri: string
    peerUri: string | null
    migrationUri: string | null
    by: string
  }): Promise<void>
  setCordon(host: string, cordon: { reason: string; by: string } | null): Promise<void>
  /** Some are set, some removed, others stay. `name`: a VM's UUID or a host's name. */
  setLabels(
    kind: 'vm' | 'host',
    name: string,
    change: { set: Readonly<Record<string, string>>; remove: readonly string[] }
  ): Promise<void>
  /** The cap of a limited key; null takes it away. Answers what it was. */
  setLimit(key: string, cap: number | null): Promise<number | null>
  /** An operator says that a silent host is off. False when it answers: then it says for itself what it has. */
  confirmOff(host: string, statement: { reason: string; by: string }): Promise<boolean>
  /** Said to be off, and not heard of since: nothing runs there. */
  isConfirmedOff(host: string): Promise<boolean>
  /** The VM lives elsewhere now: the definition that a confirmed-off host still has counts no more. */
  leaveBehind(uuid: string, host: string): Promise<boolean>
  /** How much of volumes' sizes counts in the store; what is left out stays. Answers what it was. */
  setStore(
    store: string,
    percents: { thinPercent?: number; rawPercent?: number }
  ): Promise<{ thinPercent: number; rawPercent: number } | null>
  shareStore(store: string, pools: { host: string; pool: string }[]): Promise<void>
  /** Adds an image, or changes what VMs of it are like; null removes it. */
  setImage(name: string, image: Omit<ImageFacts, 'name' | 'addedAt'> | null): Promise<void>
  /** Hosts on which the VM was ever seen or to which an attempt was bound. */
  whereabouts(uuid: string): Promise<{ host: string; state: 'active' | 'defined' | 'absent' | 'unknown' }[]>
  /** What is observed of it now, whether or not the task has loaded it. */
  vmFacts(uuid: string): Promise<VmFacts | undefined>
  /** Notes before acting that an attempt is bound to this host, so that a probe will look there. */
  bindWhereabouts(uuid: string, host: string): Promise<void>
  /** Keeps a definition (dumped with its secrets) before it is removed from a host. */
  keepDefinition(uuid: string, host: string, xml: string): Promise<void>
  /** Keeps dumped snapshots before a host is told to forget them; beside those that are kept already. */
  keepSnapshots(uuid: string, host: string, snapshots: readonly DumpedSnapshot[]): Promise<void>
  /** Those that no host was told of again yet. */
  keptSnapshots(uuid: string): Promise<DumpedSnapshot[]>
  dropKeptSnapshots(uuid: string): Promise<void>
  /** The definition kept last, and the host that it was on. */
  keptDefinition(uuid: string): Promise<{ host: string; xml: string } | undefined>
  /** What an edit replaces, and the digest of what it made of it: kept until the next edit. */
  keepBeforeEdit(uuid: string, host: string, xml: string): Promise<void>
  noteEdited(uuid: string, digest: string): Promise<void>
  beforeEdit(uuid: string): Promise<{ xml: string; editedDigest: string | null } | undefined>
  /** A saved image was made and seen on the host: it may be restored until the VM is seen to run anywhere. */
  noteSaved(uuid: string, host: string, task: number): Promise<void>
  /** A saved image no longer fits the VM's disks, e.g. they were reverted. */
  forgetSaved(uuid: string): Promise<void>
  /** Starts with its host from now on; null: no more. */
  setAutostart(uuid: string, start: StartsWithHost | null, by: string): Promise<void>
}

export interface ActionContext {
  readonly task: { id: number; attempt: number; action: string; title: string; by: string }
  /** Names this installation in the marks that it leaves on hosts. */
  readonly instance: string
  /** Observed facts, loaded when the task started. Look at the host for what decides. */
  readonly state: FleetState
  /** The host that the task was bound to when it started: by its arguments, the VM's home, or placement. */
  readonly boundHost: string | null
  /** The host that it brings a VM to, by the target of its binding. */
  readonly boundTarget: string | null
  /** Aborts when someone asked to cancel the task. */
  readonly signal: AbortSignal
  /** A host's handle; its writing calls are refused once this dispatcher's lease is too old. */
  host(name: string): Host
  /** A connection to a host that is not in the inventory yet (host.add, host.check). */
  connect(address: { name: string; controlUri: string }): Promise<{ host: Host; close(): Promise<void> }>
  readonly observe: Observer
  /** Volumes' bytes on their way between a client and a host. */
  readonly staging: Staging
  log(level: 'info' | 'warn' | 'error', message: string, data?: JsonObject): void
  /** Names what is being done now; an error says at which step it happened. */
  step(name: string): void
  progress(progress: { done: number; total: number | null; unit: string; note?: string }): void
  /** Moves of running VMs that would even out how full hosts are. */
  proposeMoves(asked: BalanceAsked): Promise<ProposedMove[]>
  /** Children to expand into, asked of predicted state like a submission; what is impossible is told one by one. */
  planChildren(requests: readonly RequestedTask[]): Promise<PlannedChildren>
  /** The queue and the inventory as a whole, for what empties a host and what fills it again. */
  readonly clearing: Clearing
  /** Whether this task has expanded, now or in an earlier attempt. */
  hasParts(): Promise<boolean>
  /** What this task promised by its effects will not come about: no request is accepted on the strength of it any more. */
  dropPromises(): Promise<void>
  /** Tells on tasks that have ended what became of their undoing. */
  markUndone(tasks: readonly { task: number; state: UndoState }[]): Promise<void>
}

export interface Action<S extends TObject = TObject> {
  /** noun.verb in our words. */
  readonly name: string
  readonly summary: string
  readonly args: S
  /** The argument that names the host it brings a VM to, if one does: clearing that host sends it elsewhere while it is queued. */
  readonly bringsVmTo?: string
  /** True when it cannot be undone: said before it runs. */
  readonly irreversible?: boolean
  /** Fills in what must be the same however often the task runs: a UUID, MAC addresses. Once, at submission, before anything else. */
  prepare?(args: Static<S>, fresh: Fresh): Static<S>
  /** How many MAC addresses, new in the fleet, `prepare` is to be given; default none. */
  freshMacs?(args: Static<S>): number
  /**
   * Fills in what depends on the fleet and must be the same however often the task runs: a disk's name on its bus, the name of its
   * volume. Pure; asked of predicted state at submission, before everything below.
   */
  fillIn?(args: Static<S>, state: FleetState): Static<S>
  /** One line for lists: `Start web1`. */
  title(args: Static<S>, state: FleetState): string
  /**
   * What it touches. Asked of predicted state at submission (phase `queued`) and again of observed state just before it
   * runs (phase `starting`), when the bound host's claim is added; another answer makes the task wait anew.
   */
  claims(args: Static<S>, state: FleetState): Claim[]
  /**
   * Units of limited keys (limits.ts) that it needs while it runs. Asked when `claims` is; as it starts, of an action with `bindTo`,
   * the bound host is known, and another answer than at submission is granted or waited for then.
   */
  limits?(args: Static<S>, state: FleetState): Units[]
  check(args: Static<S>, state: FleetState): Verdict
  /** Predicted facts after success. */
  effect(args: Static<S>, state: FleetState): Effect[]
  /**
   * The host it runs on, decided as it starts; null for none. Left out: none. `state.boundHost` and `boundTarget` are those of an
   * earlier attempt that began, which a placement keeps.
   */
  bindTo?(args: Static<S>, state: FleetState): Binding | null
  /**
   * Volumes that it makes or enlarges: room for them is promised in their stores as it starts, in the transaction that binds it. Only
   * of actions with `bindTo`; asked of observed state.
   */
  makesVolumes?(args: Static<S>, state: FleetState): VolumeNeed[]
  run(ctx: ActionContext, args: Static<S>): Promise<Outcome>
  /**
   * Of a task that expanded, once all of its children have ended; those of every expansion are given, oldest first. It may expand
   * again. Left out: complete when all of them are, else failed.
   */
  afterChildren?(ctx: ActionContext, args: Static<S>, children: readonly EndedChild[]): Promise<Outcome>
  /** What a dry run shows of it beside its claims: of a complex task, what it would expand into. Changes nothing. */
  preflight?(sql: Sql, args: Static<S>): Promise<JsonObject[]>
  /** Did it happen? Asked after a lost connection, a timeout or a crash; never changes anything. */
  probe(ctx: ActionContext, args: Static<S>): Promise<Probe>
  /** Actions whose unfinished tasks on what this one claims exclusively are cancelled at its submission: `now` makes way. */
  overtakes?(args: Static<S>): readonly string[]
  /** The inverse, as a task to submit, or why there is none. Given the result of the run. */
  undo?(args: Static<S>, state: FleetState): { action: string; args: JsonObject } | { impossible: string }
  /**
   * It may fail half-way and leave what it did: its inverse then puts that back, and changes nothing where nothing was done. Left out:
   * a task that failed has left nothing, or what it left has no inverse.
   */
  readonly undoesHalf?: true
}

/** Whatever makes a VM active on a host says so here, by `room`, or by a placement: its memory is promised there as it starts. */
export type Binding =
  /**
   * `target`: the host that it brings a VM to, by name or placed. `room`: promised on the target, where there is one. `elsewhere`:
   * asked when the host has no such room, and answers what another must have, or null when no other will do.
   */
  | {
      host: string
      target?: string | PlacementNeed
      room?: { vm: string; memoryMiB: number }
      elsewhere?: (state: FleetState) => PlacementNeed | null
    }
  /** The host is found by placement. */
  | { place: PlacementNeed }

/** What a host must have for a VM; see Need in src/inventory/candidates.ts for each. */
/** What the database hands out once: nobody else was given it, and nothing in the fleet has it. */
export type Fresh = { macs: readonly string[] }

export type PlacementNeed = Omit<Need, 'task' | 'without'> & {
  /** Hosts that will not do → why. */
  without?: Record<string, string>
}

/** Declares an action; only for its types: the arguments' static type reaches every function. */
export const action = <S extends TObject>(declared: Action<S>): Action<S> => declared
