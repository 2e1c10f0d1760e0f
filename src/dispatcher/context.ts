// What an action acts through: hosts, the log, progress, and the inventory's observer.
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Action, ActionContext, Observer } from '../actions/action.ts'
import { proposeMoves } from '../actions/balance.ts'
import { planChildren } from '../actions/children.ts'
import { createClearing } from '../actions/clearing.ts'
import type { Database } from '../db/open.ts'
import type { Hosts } from '../host/host.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { parseResource } from '../model/resource.ts'
import type { ClaimedTask } from '../queue/dispatch.ts'
import { setProgress } from '../queue/log.ts'
import { Staging } from '../staging/staging.ts'
import { hasParts } from '../queue/under-way.ts'
import { dropEffects, setUndoStates } from '../queue/undo.ts'
import type { Place } from './choose-host.ts'
import { LogLines } from './log-lines.ts'

export type ContextParts = {
  /** Names this installation in marks on hosts. */
  instance: string
  hosts: Hosts
  isHostUp(host: string): boolean
  connect: ActionContext['connect']
  observer: Observer
  /** Default: one in the temporary directory, for those who bring no bytes. */
  staging?: Staging
}

/** Builds what an action acts through; `step` tells which step it was at last. */
export type ContextFor = (
  task: ClaimedTask,
  state: FleetState,
  place: Place
) => { context: ActionContext; step: () => string | undefined }

export function createContexts(
  parts: ContextParts & { database: Database; registry: ReadonlyMap<string, Action>; log: Logger }
) {
  const { database, log } = parts
  const staging = parts.staging ?? new Staging({ directory: join(tmpdir(), `taskomatic-${parts.instance}`) })
  const lines = new LogLines(database, log)
  function contextFor(task: ClaimedTask, state: FleetState, place: Place, signal: AbortSignal) {
    let step: string | undefined
    const { id, attempt } = task
    // Nobody waits for it; one after another, so that the last one said stays.
    let written: Promise<unknown> = Promise.resolve()
    const write = (work: () => Promise<unknown>) => {
      written = written
        .then(work)
        .catch((error: unknown) => log.warn({ err: error, task: id }, 'a note on a task was not kept'))
    }
    const note: ActionContext['log'] = (level, message, data) =>
      lines.add({ task: id, attempt, level, message, ...(data ? { data } : {}) })
    const context: ActionContext = {
      task: { id, attempt, action: task.action, title: task.title, by: task.by },
      instance: parts.instance,
      state,
      boundHost: place.host,
      boundTarget: place.target,
      signal,
      host: (name) => parts.hosts.host(name),
      connect: parts.connect,
      observe: parts.observer,
      staging,
      log: note,
      step(name) {
        step = name
        note('info', name)
      },
      progress: (progress) => write(() => setProgress(database, { task: id, attempt, progress })),
      clearing: createClearing(database, parts.registry, { id, title: task.title, by: task.by }),
      proposeMoves: (asked) => proposeMoves(database, asked),
      planChildren: (requests) => planChildren(database, parts.registry, { id, by: task.by }, requests),
      hasParts: () => hasParts(database, id),
      dropPromises: () => dropEffects(database, { task: id, attempt }),
      markUndone: (tasks) => setUndoStates(database, { task: id, attempt }, tasks)
    }
    return { context, step: () => step }
  }

  async function refresh(claims: readonly { resource: string }[], boundHost: string | null): Promise<void> {
    if (boundHost === null || !parts.isHostUp(boundHost)) return
    for (const claim of claims) {
      const named = parseResource(claim.resource)
      const [first = '', second = ''] = named?.parts ?? []
      if (named?.kind === 'vm') await parts.observer.vm(boundHost, first)
      if (named?.kind === 'pool' && first === boundHost) await parts.observer.pool(first, second)
    }
  }

  /** What was said so far is written when it resolves. */
  const flush = () => lines.flush()
  return { contextFor, refresh, flush }
}
