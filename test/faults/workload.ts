// A batch of mixed requests that a seed repeats: lives of VMs, volumes and pools, each step possible once the ones before it are done,
// cut into plans that mix them, with explicit prerequisites across.
import type { RequestedTask } from '../../src/actions/submit.ts'
import type { JsonObject } from '../../src/db/json.ts'
import { Dice } from '../queue/dice.ts'

export type Batch = { seed: number; plans: RequestedTask[][] }

type Step = { action: string; args: JsonObject }
type Life = { steps: Step[]; next: number }

/** Hosts that have a store together; what a VM or volume goes through, it goes through among these. */
export type Group = { store: string; hosts: readonly string[] }

const planSize = 25
const vmShare = 0.75

/** `tag` keeps the names of batches apart. */
export function batchOf(seed: number, tag: string, options: { tasks: number; groups: readonly Group[] }): Batch {
  const dice = new Dice(seed)
  const lives: Life[] = []
  let steps = 0
  for (let n = 1; steps < options.tasks; n++) {
    const left = options.tasks - steps
    const name = `${tag}-${n}`
    const group = dice.pick(options.groups) ?? { store: '', hosts: [] }
    const life = dice.chance(vmShare)
      ? lifeOfVm(name, dice, group)
      : dice.chance(0.6)
        ? lifeOfVolume(name, dice, group)
        : lifeOfPool(name, dice, group)
    const cut = life.slice(0, left)
    steps += cut.length
    lives.push({ steps: cut, next: 0 })
  }
  const plans: RequestedTask[][] = []
  for (let made = 0; made < steps; made += planSize) plans.push(planOf(lives, Math.min(planSize, steps - made), dice))
  return { seed, plans }
}

/** Each life goes on in its order; which goes on next is chance, and now and then one waits for another's step. */
function planOf(lives: readonly Life[], size: number, dice: Dice): RequestedTask[] {
  const plan: RequestedTask[] = []
  while (plan.length < size) {
    const life = dice.pick(lives.filter(({ steps, next }) => next < steps.length))
    const step = life?.steps[life.next++]
    if (!step) break
    const before = dice.chance(0.2) ? dice.pick(plan) : undefined
    plan.push({ key: `t${plan.length}`, ...step, ...(before?.key === undefined ? {} : { after: [before.key] }) })
  }
  return plan
}

function lifeOfVm(vm: string, dice: Dice, { store, hosts }: Group): Step[] {
  let home = dice.pick(hosts) ?? ''
  let power: 'off' | 'running' | 'paused' | 'saved' = 'off'
  let snapshots = 0
  const elsewhere = () => dice.pick(hosts.filter((host) => host !== home)) ?? home
  const disks = [{ store, sizeMiB: 64 }]
  const steps: Step[] = [{ action: 'vm.create', args: { name: vm, memoryMiB: 256, vcpus: 1, host: home, disks } }]
  const add = (action: string, args: JsonObject = {}) => steps.push({ action, args: { vm, ...args } })
  for (let turns = 4 + dice.below(8); turns > 0; turns--) {
    if (power === 'off' || power === 'saved') {
      // Where there is a saved image, the start goes on from it.
      add('vm.start')
      power = 'running'
    } else if (power === 'paused') {
      add('vm.resume')
      power = 'running'
    } else {
      const turn = dice.below(10)
      if (turn < 4) {
        home = elsewhere()
        add('vm.migrate', { to: home })
      } else if (turn < 7) {
        add('vm.stop', { timeoutSeconds: 10 })
        power = 'off'
        if (dice.chance(0.4)) add('vm.snapshot.create', { name: `s${++snapshots}` })
        if (snapshots > 0 && dice.chance(0.5)) add('vm.snapshot.delete', { snapshot: `s${snapshots--}` })
      } else if (turn < 8) {
        add('vm.pause')
        power = 'paused'
      } else if (snapshots === 0) {
        add('vm.save')
        power = 'saved'
      }
    }
  }
  if (power === 'running') add('vm.stop', { timeoutSeconds: 10 })
  if (power === 'running' || power === 'off') {
    for (; snapshots > 0; snapshots--) add('vm.snapshot.delete', { snapshot: `s${snapshots}` })
    if (dice.chance(0.6)) add('vm.delete', { volumes: true })
  }
  return steps
}

function lifeOfVolume(name: string, dice: Dice, { store }: Group): Step[] {
  const volume = `${store}/${name}.img`
  const steps: Step[] = [{ action: 'volume.create', args: { store, name: `${name}.img`, sizeMiB: 16, format: 'raw' } }]
  let copies = 0
  for (let turns = dice.below(4), sizeMiB = 16; turns > 0; turns--) {
    if (dice.chance(0.5)) steps.push({ action: 'volume.resize', args: { volume, sizeMiB: (sizeMiB *= 2) } })
    else
      steps.push({
        action: 'volume.clone',
        args: { volume, store, name: `${name}-copy${++copies}.img` }
      })
  }
  if (dice.chance(0.5)) steps.push({ action: 'volume.delete', args: { volume } })
  return steps
}

function lifeOfPool(pool: string, dice: Dice, { hosts }: Group): Step[] {
  const at = { host: dice.pick(hosts) ?? '', pool }
  const steps: Step[] = [{ action: 'pool.create', args: { ...at, target: `/srv/${pool}` } }]
  for (let turns = dice.below(3); turns > 0; turns--)
    steps.push({ action: 'pool.stop', args: at }, { action: 'pool.start', args: at })
  if (dice.chance(0.5)) steps.push({ action: 'pool.delete', args: at })
  return steps
}
