// The host's reboot event, which alone proves a reboot or a reset: before and after the VM runs, and looks the same. So what was sent
// and is not known to have happened is never sent again: the guest would go down twice.
import { HostError } from '../host/error.ts'
import type { Host } from '../host/host.ts'
import { complete, type ActionContext, type Outcome, type Probe } from './action.ts'
import { boundVm } from './vm-place.ts'

const runsMs = 30_000

/** Listens from before the request on: true at the event, false when the time is over. Rejects when cancelled. */
export function watchReboot(host: Host, uuid: string, timeoutMs: number, signal: AbortSignal) {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>()
  // Whoever stops before it is awaited must not leave an unhandled rejection.
  promise.catch(() => {})
  const unlisten = host.onChange((change) => {
    if (change.kind === 'vm' && change.uuid === uuid && change.event === 'reboot') resolve(true)
  })
  const timer = setTimeout(() => resolve(false), timeoutMs)
  const aborted = () =>
    reject(new HostError('aborted', host.name, `${host.name}: stopped waiting for the reboot of VM ${uuid}`))
  if (signal.aborted) aborted()
  signal.addEventListener('abort', aborted)
  let pause: NodeJS.Timeout | undefined
  return {
    /** Undefined: not yet. */
    within(ms: number): Promise<boolean | undefined> {
      clearTimeout(pause)
      const over = new Promise<undefined>((done) => void (pause = setTimeout(() => done(undefined), ms)))
      return Promise.race([promise, over])
    },
    stop() {
      clearTimeout(pause)
      unlisten()
      clearTimeout(timer)
      signal.removeEventListener('abort', aborted)
    }
  }
}

/** Waits until the VM runs again, and records that. */
export async function runsAgain(ctx: ActionContext, host: Host, uuid: string): Promise<Outcome> {
  await host.untilVm(uuid, (now) => now?.power === 'running', { timeoutMs: runsMs, signal: ctx.signal })
  await ctx.observe.vm(host.name, uuid)
  return complete({ host: host.name })
}

/** @param what `a reboot` */
export async function probeReboot(ctx: ActionContext, uuid: string, what: string): Promise<Probe> {
  const { host, vm } = await boundVm(ctx, uuid)
  const evidence = { host: host.name, power: vm?.power ?? null }
  return {
    happened: 'unknown',
    evidence,
    why: `a VM looks the same before and after ${what}, and it is not sent twice`
  }
}
