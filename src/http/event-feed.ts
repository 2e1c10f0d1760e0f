// What happened to tasks, read once for everybody who listens: event streams and long polls. A notification only says "look";
// a timer looks too, so that a lost one costs a second and nothing else.

export type TaskEvent = {
  /** Grows; a gap means nothing. */
  id: number
  at: Date
  submitted: readonly number[]
  started: readonly number[]
  ended: readonly number[]
  /** Held, parked, waiting anew, progress of another kind. */
  changed: readonly number[]
}

export type EventSource = {
  /** Events after `id`, oldest first, at most `limit`. */
  read(after: number, limit: number): Promise<TaskEvent[]>
  /** The id of the newest event; 0 when there is none. */
  newest(): Promise<number>
  /** Calls back when there may be new events. */
  listen(look: () => void): Promise<{ stop(): Promise<void> }>
  onError(error: unknown): void
}

export interface EventFeed {
  /** Hears every event from now on; returns a function that ends it. */
  subscribe(hear: (event: TaskEvent) => void): () => void
  /** Events after `id`, for someone who comes back; at most `limit`. */
  since(id: number, limit: number): Promise<TaskEvent[]>
  /** May be called twice. */
  stop(): Promise<void>
}

const BATCH = 500
const GUARD_MS = 1000

export async function startEventFeed(source: EventSource): Promise<EventFeed> {
  const hearers = new Set<(event: TaskEvent) => void>()
  let seen = await source.newest()
  let reading: Promise<void> | undefined
  let again = false
  let stopped = false

  async function read(): Promise<void> {
    while (again) {
      again = false
      if (stopped) return
      const events = await source.read(seen, BATCH)
      for (const event of events) {
        seen = event.id
        for (const hear of hearers) hear(event)
      }
      again ||= events.length === BATCH
    }
  }

  function look(): void {
    again = true
    if (stopped || reading) return
    reading = read()
      .catch((error: unknown) => source.onError(error))
      .finally(() => {
        reading = undefined
      })
  }

  const listening = await source.listen(look)
  const timer = setInterval(look, GUARD_MS)
  timer.unref()
  return {
    subscribe(hear) {
      const own = (event: TaskEvent) => hear(event)
      hearers.add(own)
      return () => hearers.delete(own)
    },
    since: (id, limit) => source.read(id, limit),
    async stop() {
      if (stopped) return
      stopped = true
      clearInterval(timer)
      hearers.clear()
      await listening.stop()
      await reading
    }
  }
}

/**
 * Resolves when an event concerns us, after `timeoutMs`, or when `signal` aborts; says which.
 * `atOnce` is asked once events are heard, before the wait: what it finds over already ends it.
 */
export async function untilEvent(
  feed: EventFeed,
  concerns: (event: TaskEvent) => boolean,
  options: { timeoutMs: number; signal: AbortSignal; atOnce: () => Promise<boolean> }
): Promise<'event' | 'timeout' | 'aborted' | 'at_once'> {
  const { promise, resolve } = Promise.withResolvers<'event' | 'timeout' | 'aborted'>()
  const unsubscribe = feed.subscribe((event) => {
    if (concerns(event)) resolve('event')
  })
  const abort = () => resolve('aborted')
  options.signal.addEventListener('abort', abort, { once: true })
  const timer = setTimeout(() => resolve('timeout'), options.timeoutMs)
  try {
    if (options.signal.aborted) return 'aborted'
    if (await options.atOnce()) return 'at_once'
    return await promise
  } finally {
    clearTimeout(timer)
    options.signal.removeEventListener('abort', abort)
    unsubscribe()
  }
}

export const concernsTask =
  (id: number) =>
  ({ submitted, started, ended, changed }: TaskEvent): boolean =>
    ended.includes(id) || started.includes(id) || changed.includes(id) || submitted.includes(id)
