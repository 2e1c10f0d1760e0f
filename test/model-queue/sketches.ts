// Random tasks for the model and for the real queue alike: few resources, so that they meet; complex ones that expand and expand again,
// some that learn late what they claim, limits, prerequisites, holds, dates.
import type { Dice } from '../queue/dice.ts'
import type { Claims, Limits, Needs, Sketch } from './state.ts'

/** What becomes of a task once it runs: the simulation knows, the queue does not. */
export type Fate = {
  /** What it claims when it is about to run, and the units that it needs then. */
  late?: { claims: Claims; limits: Limits | null }
  children?: readonly Planned[]
}
export type Planned = { sketch: Sketch; fate: Fate }

/** Keys of limits with their caps. */
export const CAPS: Readonly<Record<string, number>> = { starts: 2, 'out/0': 1, 'in/1': 1, 'move/*': 2 }
export const RESOURCES = ['vm/0', 'vm/1', 'vm/2', 'host/0', 'host/1', 'gate/0', 'gate/1']

const VMS = 3

export function randomPlan(dice: Dice, request: { earlier: readonly number[]; now: number }): Planned[] {
  const size = dice.chance(0.6) ? 1 : 2 + dice.below(3)
  return Array.from({ length: size }, (_, at) => {
    const planned = randomTask(dice, 0)
    const after: { task?: number; element?: number; needs: Needs }[] = []
    const needs = dice.chance(0.5) ? 'complete' : 'ended'
    if (at > 0 && dice.chance(0.3)) after.push({ element: dice.below(at), needs })
    const earlier = dice.pick(request.earlier.slice(-6))
    if (earlier !== undefined && dice.chance(0.2)) after.push({ task: earlier, needs })
    const held = dice.chance(0.05)
    const notBefore = dice.chance(0.07) ? request.now + dice.below(1500) : null
    return { ...planned, sketch: { ...planned.sketch, after, held, notBefore } }
  })
}

function randomTask(dice: Dice, depth: number): Planned {
  const kind = dice.next()
  const host = dice.below(2)
  const vm = `vm/${dice.below(VMS)}`
  if (depth < 2 && kind < (depth === 0 ? 0.25 : 0.15)) {
    const claims = dice.chance(0.6) ? [own(`gate/${host}`)] : [own(vm)]
    const limits = dice.chance(0.2) ? [{ key: 'starts', units: 1 }] : []
    return { sketch: sketchOf(dice, { claims, limits }), fate: { children: randomChildren(dice, depth + 1) } }
  }
  if (kind < 0.35 && depth === 0) return plain(dice, [own(`host/${host}`), own(`gate/${host}`)], [])
  if (kind < 0.55) {
    const limits = [
      { key: `out/${host}`, units: 1 },
      { key: `in/${1 - host}`, units: 1 }
    ]
    return late(dice, [own(vm)], limits, {
      claims: [own(vm), shared(`host/${host}`), shared(`host/${1 - host}`)],
      limits: null
    })
  }
  if (kind < 0.7) {
    const limits = [{ key: 'starts', units: 1 + dice.below(2) }]
    const more = dice.chance(0.3) ? [{ key: `move/${host}`, units: 1 + dice.below(2) }, ...limits] : null
    return late(dice, [own(vm)], limits, { claims: [own(vm), shared(`host/${host}`)], limits: more })
  }
  if (kind < 0.8) return late(dice, [own(vm)], [], { claims: [own(`vm/${dice.below(VMS)}`)], limits: null })
  const units = dice.chance(0.5) ? [{ key: 'starts', units: 1 + dice.below(2) }] : []
  return plain(dice, [own(vm), shared(`vm/${dice.below(VMS)}`), shared(`host/${host}`)], units)
}

function randomChildren(dice: Dice, depth: number): Planned[] {
  return Array.from({ length: 1 + dice.below(3) }, (_, at) => {
    const child = randomTask(dice, depth)
    const after = at > 0 && dice.chance(0.2) ? [{ element: dice.below(at), needs: 'ended' as const }] : []
    return { ...child, sketch: { ...child.sketch, after } }
  })
}

const own = (resource: string) => ({ resource, exclusive: true })
const shared = (resource: string) => ({ resource, exclusive: false })

const plain = (dice: Dice, claims: Claims, limits: Limits): Planned => ({
  sketch: sketchOf(dice, { claims, limits }),
  fate: {}
})

const late = (dice: Dice, claims: Claims, limits: Limits, then: NonNullable<Fate['late']>): Planned => ({
  sketch: sketchOf(dice, { claims, limits, binds: true }),
  fate: { late: then }
})

const sketchOf = (dice: Dice, more: Partial<Sketch>): Sketch => ({
  claims: [],
  after: [],
  priority: dice.below(3) - 1,
  binds: false,
  held: false,
  notBefore: null,
  limits: [],
  ...more
})
