// GET /limits: how much of what may go on at one time, how much does, and who waits. Set by the action `limit.set`.
import { Type } from 'typebox'
import { LimitView } from '../api/limit.ts'
import type { Database } from '../db/open.ts'
import { limitInWords } from '../actions/limits.ts'
import { readLimits } from '../queue/limits.ts'
import { answers, type Api } from './app.ts'

export function limitRoutes(app: Api, database: Database): void {
  app.get(
    '/limits',
    {
      schema: {
        summary: 'Limits',
        operationId: 'listLimits',
        response: { 200: answers('Caps that are set, and keys in use', Type.Object({ items: Type.Array(LimitView) })) }
      }
    },
    async () => ({
      items: (await readLimits(database)).map((limit) => ({ ...limit, words: limitInWords(limit.key) }))
    })
  )
}
