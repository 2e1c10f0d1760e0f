// Sets how much of a volume's size counts in a store: by how much it may be over-committed. A row of ours; nothing on a host changes.
import { Type, type Static } from 'typebox'
import { quote } from '../model/name.ts'
import { resource } from '../model/resource.ts'
import { action, complete, impossible, possible, type Probe } from './action.ts'
import { attempt } from './attempt.ts'
import { StoreRef } from './refs.ts'
import { exclusive } from './vm-place.ts'

const percent = (description: string) => Type.Optional(Type.Integer({ description, minimum: 0, maximum: 100 }))

const args = Type.Object(
  {
    store: StoreRef,
    thinPercent: percent(
      'Of qcow2 volumes, which grow as they are filled, this part of their size counts; 25 at first'
    ),
    rawPercent: percent('Of raw volumes, however little of them is written; 100 at first')
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

const isEmpty = ({ thinPercent, rawPercent }: Args) => thinPercent === undefined && rawPercent === undefined

export const storeSet = action({
  name: 'store.set',
  summary: "Set how much of volumes' sizes counts in a store",
  args,
  title: ({ store }) => `Set what counts in store ${store}`,
  claims: ({ store }) => [exclusive(resource.storeSettings(store))],
  check(given, state) {
    if (!state.store(given.store))
      return impossible('store_not_found', `there is no store ${quote(given.store)}`, 'see `taskomatic store list`')
    if (isEmpty(given))
      return impossible('nothing_to_set', 'nothing is to be set', 'give "thinPercent" or "rawPercent"')
    return possible
  },
  effect: ({ store, ...percents }) => [{ subject: resource.store(store), facts: percents }],
  run: (ctx, { store, ...percents }) =>
    attempt(
      ctx,
      async (step) => {
        step('write the setting')
        return complete({ store, ...percents, before: await ctx.observe.setStore(store, percents) })
      },
      { probe }
    ),
  probe,
  undo: ({ store, ...asked }, state) => {
    const before = state.store(store)
    if (!before) return { impossible: 'the store is gone' }
    const { thinPercent, rawPercent } = before
    return {
      action: 'store.set',
      args: {
        store,
        ...(asked.thinPercent === undefined ? {} : { thinPercent }),
        ...(asked.rawPercent === undefined ? {} : { rawPercent })
      }
    }
  }
})

/** A row of our own: writing it again changes nothing. */
async function probe(): Promise<Probe> {
  return { happened: 'no', evidence: null }
}
