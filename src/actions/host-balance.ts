// Evens out how full the hosts are, by moving running VMs: proposed as it starts, one part for each move.
import { Type } from 'typebox'
import { action, complete, expand, possible, type Outcome, type Probe } from './action.ts'
import { attempt } from './attempt.ts'
import { movesAsRows, proposeMoves } from './balance.ts'
import { HostRef } from './refs.ts'

const args = Type.Object(
  {
    hosts: Type.Optional(
      Type.Array(HostRef, { description: 'Only among these hosts; default all', minItems: 2, maxItems: 1000 })
    ),
    withinPercent: Type.Optional(
      Type.Integer({
        description: 'Hosts whose fullness differs by no more than this many percent are left as they are; default 10',
        minimum: 1,
        maximum: 100
      })
    ),
    maxMoves: Type.Optional(
      Type.Integer({ description: 'At most so many moves; default 20', minimum: 1, maximum: 1000 })
    ),
    autoConverge: Type.Optional(
      Type.Boolean({
        description: 'Slow guests down that write faster than the network copies; default false',
        default: false
      })
    )
  },
  { additionalProperties: false }
)

export const hostBalance = action({
  name: 'host.balance',
  summary: 'Even out how full hosts are, by moving running VMs',
  args,
  title: ({ hosts }) => `Balance ${hosts ? hosts.join(', ') : 'all hosts'}`,
  // Its parts claim the VMs and hosts that they touch.
  claims: () => [],
  check: () => possible,
  effect: () => [],
  run: (ctx, given) =>
    attempt(
      ctx,
      async (step): Promise<Outcome> => {
        step('find what to move')
        const moves = await ctx.proposeMoves(given)
        for (const { name, to, why } of moves) ctx.log('info', `${name} goes to ${to}: ${why}`)
        const { children, refused } = await ctx.planChildren(
          moves.map(({ vm, to }) => ({
            action: 'vm.migrate',
            args: { vm, to, ...(given.autoConverge ? { autoConverge: true } : {}) }
          }))
        )
        for (const { error } of refused) ctx.log('warn', `not possible any more: ${error.message}`)
        return children.length > 0 ? expand(children) : complete({ moves: 0 })
      },
      { probe }
    ),
  probe,
  preflight: async (sql, given) => movesAsRows(await proposeMoves(sql, given)),
  undo: () => ({ impossible: 'its moves are tasks of their own, each with an inverse' })
})

/** Nothing happened before it has parts; asked anew, it proposes what is left. */
async function probe(): Promise<Probe> {
  return { happened: 'no', evidence: null }
}
