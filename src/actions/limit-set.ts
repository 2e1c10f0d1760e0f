// Sets the cap of a limited key, or of all keys of a kind: a row of ours. What waits for units goes on by what there then is.
import { Type } from 'typebox'
import { resource } from '../model/resource.ts'
import { action, complete, impossible, possible, type Probe } from './action.ts'
import { attempt } from './attempt.ts'
import { limitInWords, limitKinds } from './limits.ts'
import { exclusive } from './vm-place.ts'

const mostUnits = 1_000_000

const args = Type.Object(
  {
    key: Type.String({
      description: `One of ${limitKinds.map((kind) => `${kind}/NAME`).join(', ')}; KIND/* for all of a kind`,
      minLength: 3,
      maxLength: 255,
      pattern: '^[a-z-]+/(\\*|[A-Za-z0-9][A-Za-z0-9._/-]*)$',
      'x-rule': 'written as KIND/NAME or KIND/*'
    }),
    cap: Type.Union([Type.Integer({ minimum: 0, maximum: mostUnits }), Type.Null()], {
      description: 'Most units at one time; null: that of its kind, and of a kind none'
    })
  },
  { additionalProperties: false }
)

export const limitSet = action({
  name: 'limit.set',
  summary: 'Set how much of something goes on at one time',
  args,
  title: ({ key, cap }) => `Limit ${limitInWords(key)} to ${cap ?? 'the default'}`,
  claims: ({ key }) => [exclusive(resource.limit(key))],
  check({ key }) {
    const kind = key.slice(0, key.indexOf('/'))
    if (limitKinds.includes(kind)) return possible
    return impossible('unknown_limit', `nothing is limited by ${kind}`, `one of ${limitKinds.join(', ')}`)
  },
  effect: () => [],
  run: (ctx, { key, cap }) =>
    attempt(
      ctx,
      async (step) => {
        step('write the cap')
        const before = await ctx.observe.setLimit(key, cap)
        return complete({ key, cap, before })
      },
      { probe }
    ),
  probe,
  undo: () => ({ impossible: 'what it was before is in the result of the task' })
})

/** A row of our own: writing it again changes nothing. */
async function probe(): Promise<Probe> {
  return { happened: 'no', evidence: null }
}
