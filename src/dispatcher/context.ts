// What an action acts through: hosts, the log, progress, and the inventory's observer.
import type { Logger } from 'pino'
import type { ActionContext, Observer } from '../actions/action.ts'
import type { Database } from '../db/open.ts'
import type { Hosts } from '../host/host.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { parseResource } from '../model/resource.ts'
import type { ClaimedTask } from '../queue/dispatch.ts'
import { appendLog, setProgress } from '../queue/log.ts'

export type ContextParts = {
  /** Names this installation in marks on hosts. */
  instance: string
  hosts: Hosts
  isHostUp(host: string): boolean
  connect: ActionContext['connect']
  observer: Observer
}

export function createContexts(parts: ContextParts & { database: Database; log: Logger }) {
  const { database, log } = parts
  const background = (work: Promise<unknown>, task: number) => {
    work.catch((error: unknown) => log.warn({ err: error, task }, 'a note on a task was not kept'))
  }

  function contextFor(task: ClaimedTask, state: FleetState, boundHost: string | null, signal: AbortSignal) {
    let step: string | undefined
    const note: ActionContext['log'] = (level, message, data) =>
      background(
        appendLog(database, { task: task.id, attempt: task.attempt, level, message, ...(data ? { data } : {}) }),
        task.id
      )
    const context: ActionContext = {
      task: { id: task.id, attempt: task.attempt, action: task.action, title: task.title, by: task.by },
      instance: parts.instance,
      state,
      boundHost,
      signal,
      host: (name) => parts.hosts.host(name),
      connect: parts.connect,
      observe: parts.observer,
      log: note,
      step(name) {
        step = name
        note('info', name)
      },
      progress: (progress) =>
        background(setProgress(database, { task: task.id, attempt: task.attempt, progress }), task.id),
      children: null
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

  return { contextFor, refresh }
}
