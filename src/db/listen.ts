// LISTEN on one connection of its own. A notification only says "look again": when the connection breaks, notices are lost,
// and after reconnecting every listener hears `gap`, so that it reads what it may have missed.

import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { DatabaseError, toDatabaseError } from './error.ts'

export type Notice = { kind: 'message'; payload: string } | { kind: 'gap' }

export type Listening = {
  /** Hears no more. May be called twice. */
  stop(): Promise<void>
}

export type Listener = {
  listen(channel: string, onNotify: (notice: Notice) => void): Promise<Listening>
  stop(): Promise<void>
}

const FIRST_RETRY_MS = 100
const LAST_RETRY_MS = 5_000

export function openListener(config: pg.ClientConfig, onError?: (error: DatabaseError) => void): Listener {
  const hearers = new Map<string, Set<(notice: Notice) => void>>()
  const stopped = new AbortController()
  let connection: Promise<pg.Client> | undefined

  const tell = (hearer: (notice: Notice) => void, notice: Notice) => {
    try {
      hearer(notice)
    } catch (error) {
      onError?.(new DatabaseError('internal', 'a listener threw', { cause: error }))
    }
  }

  async function connectOnce(): Promise<pg.Client> {
    const client = new pg.Client(config)
    client.on('error', (error) => onError?.(toDatabaseError(error, 'inside')))
    client.on('notification', (message) => {
      for (const hearer of hearers.get(message.channel) ?? []) {
        tell(hearer, { kind: 'message', payload: message.payload ?? '' })
      }
    })
    try {
      await client.connect()
      for (const channel of hearers.keys()) await client.query(`listen ${pg.escapeIdentifier(channel)}`)
    } catch (error) {
      await client.end().catch(() => undefined)
      throw toDatabaseError(error, 'connect')
    }
    client.once('end', () => {
      if (stopped.signal.aborted) return
      connection = reconnect()
      connection.catch(() => undefined)
    })
    return client
  }

  async function reconnect(): Promise<pg.Client> {
    for (let waitMs = FIRST_RETRY_MS; ; waitMs = Math.min(waitMs * 2, LAST_RETRY_MS)) {
      await sleep(waitMs, undefined, { signal: stopped.signal, ref: false })
      try {
        const client = await connectOnce()
        for (const set of hearers.values()) for (const hearer of set) tell(hearer, { kind: 'gap' })
        return client
      } catch (error) {
        if (stopped.signal.aborted) throw error
        onError?.(toDatabaseError(error, 'connect'))
      }
    }
  }

  return {
    async listen(channel, onNotify) {
      if (stopped.signal.aborted) throw new DatabaseError('stopped', 'the database was stopped')
      const set = hearers.get(channel) ?? new Set()
      hearers.set(channel, set)
      const hearer = (notice: Notice) => onNotify(notice)
      set.add(hearer)
      try {
        connection ??= connectOnce().catch((error: unknown) => {
          connection = undefined
          throw error
        })
        const client = await connection
        await client.query(`listen ${pg.escapeIdentifier(channel)}`)
      } catch (error) {
        set.delete(hearer)
        throw toDatabaseError(error, 'connect')
      }
      return {
        async stop() {
          if (!set.delete(hearer) || set.size > 0 || stopped.signal.aborted) return
          hearers.delete(channel)
          const client = await connection?.catch(() => undefined)
          await client?.query(`unlisten ${pg.escapeIdentifier(channel)}`).catch(() => undefined)
        }
      }
    },
    async stop() {
      if (stopped.signal.aborted) return
      stopped.abort()
      hearers.clear()
      const client = await connection?.catch(() => undefined)
      await client?.end().catch(() => undefined)
    }
  }
}
