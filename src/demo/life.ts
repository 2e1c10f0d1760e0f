// A gentle life for a demo that stays up: VMs are started, stopped and migrated, and now and then a host is cleared and restored.
// What is chosen follows from a seed and from what is there; what a visitor made is left alone.
import { setTimeout as delay } from 'node:timers/promises'
import type { HostView, VmView } from '../api/fleet.ts'
import type { Submitted } from '../api/submission.ts'
import type { TaskView } from '../api/task.ts'
import type { Client } from '../cli/client.ts'
import { CliError } from '../cli/failure.ts'
import { isDemoVm } from './scenario.ts'

export type Sight = {
  vms: readonly Pick<VmView, 'name' | 'power' | 'activeOn'>[]
  hosts: readonly Pick<HostView, 'name' | 'connection' | 'cordoned'>[]
}

export type Step =
  | { do: 'start' | 'stop'; vm: string }
  | { do: 'migrate'; vm: string; to: string }
  | { do: 'clear'; host: string }
  | { do: 'nothing' }

/** One step in so many is the clearing of a host. */
const STEPS_A_CLEAR = 25
/** Of the demo's VMs at least this share runs. */
const MOSTLY = 0.8

/**
 * What happens next. Pure: the same numbers and sight give the same step.
 * @param random numbers from 0 to 1
 * @param kept hosts that are never cleared, so that a visitor can always use them
 */
export function nextStep(random: () => number, sight: Sight, kept: readonly string[]): Step {
  const pick = <T>(from: readonly T[]): T | undefined => from[Math.floor(random() * from.length)]
  const open = sight.hosts.filter(({ connection, cordoned }) => connection === 'up' && !cordoned)
  const vms = sight.vms.filter(({ name }) => isDemoVm(name))
  const running = vms.filter(({ power }) => power === 'running')
  const off = vms.filter(({ power }) => power === 'off')
  if (random() < 1 / STEPS_A_CLEAR) {
    const host = pick(open.filter(({ name }) => !kept.includes(name)))
    if (host && open.length > 1) return { do: 'clear', host: host.name }
  }
  const kind = pick(['start', 'stop', 'migrate', 'migrate'] as const)
  if (kind === 'migrate' || off.length === 0) {
    const vm = pick(running)
    const to = pick(open.filter(({ name }) => name !== vm?.activeOn))
    if (vm && to) return { do: 'migrate', vm: vm.name, to: to.name }
  }
  if (kind === 'stop' && running.length > vms.length * MOSTLY) {
    const vm = pick(running)
    return vm ? { do: 'stop', vm: vm.name } : { do: 'nothing' }
  }
  const vm = pick(off)
  return vm ? { do: 'start', vm: vm.name } : { do: 'nothing' }
}

export type LifeOptions = {
  random: () => number
  kept: readonly string[]
  /** Between two steps: from half of it to one and a half. */
  pauseMs: number
  /** How long a cleared host stays so. */
  clearedMs: number
  signal: AbortSignal
  /** Hears of every step as it is submitted. */
  onStep?: (step: Step) => void
}

/** Lives until `signal` aborts. What is refused, since a visitor came first, is let be. */
export async function live(client: Client, options: LifeOptions): Promise<void> {
  const { random, kept, pauseMs, signal } = options
  while (!signal.aborted) {
    try {
      await delay(pauseMs * (0.5 + random()), undefined, { signal })
      const step = nextStep(random, await look(client, signal), kept)
      options.onStep?.(step)
      await take(client, step, options)
    } catch (error) {
      if (signal.aborted) return
      if (!(error instanceof CliError)) throw error
    }
  }
}

async function look(client: Client, signal: AbortSignal): Promise<Sight> {
  const [vms, hosts] = await Promise.all([
    client.get<{ items: VmView[] }>('/vms', { name: 'demo*', limit: 500 }, { signal }),
    client.get<{ items: HostView[] }>('/hosts', { limit: 500 }, { signal })
  ])
  return { vms: vms.items, hosts: hosts.items }
}

async function take(client: Client, step: Step, { clearedMs, signal }: LifeOptions): Promise<void> {
  const reason = 'the demo lives'
  const ask = (action: string, args: Record<string, unknown>) =>
    client.post<Submitted>('/tasks', { action, args, reason }, { signal })
  switch (step.do) {
    case 'start':
      await ask('vm.start', { vm: step.vm })
      break
    case 'stop':
      await ask('vm.stop', { vm: step.vm, force: true })
      break
    case 'migrate':
      await ask('vm.migrate', { vm: step.vm, to: step.to })
      break
    case 'clear': {
      const { tasks } = await ask('host.clear', { host: step.host, vms: 'migrate' })
      for (const { id } of tasks) await taskEnds(client, id, signal)
      await delay(clearedMs, undefined, { signal })
      await ask('host.restore', { host: step.host })
    }
  }
}

async function taskEnds(client: Client, id: number, signal: AbortSignal): Promise<void> {
  let state: string | undefined
  do
    ({ state } = await client.get<TaskView>(`/tasks/${id}`, { wait: 25, ...(state ? { not: state } : {}) }, { signal }))
  while (!['complete', 'failed', 'cancelled'].includes(state))
}
