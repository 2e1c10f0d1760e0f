// A limit as the API shows it.
import { Type, type Static } from 'typebox'

export const LimitView = Type.Object(
  {
    key: Type.String({
      description: 'E.g. starts/h1; starts/* is the cap of every key of its kind that has none of its own'
    }),
    words: Type.String({ description: 'The key as people say it: starts on h1' }),
    cap: Type.Union([Type.Integer(), Type.Null()], { description: 'Most units at one time; null: no limit' }),
    own: Type.Boolean({ description: 'Set for this very key' }),
    used: Type.Integer({ description: 'Units in use' }),
    queued: Type.Integer({ description: 'Tasks that wait for units' })
  },
  { $id: 'Limit' }
)
export type LimitView = Static<typeof LimitView>
