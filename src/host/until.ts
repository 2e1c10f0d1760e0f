// Waiting until a VM is as it should be: woken by its events, and by a timer for those that were missed.
import type { ObservedVm } from '../model/vm.ts'
import type { HostChange } from './host.ts'
import { HostError } from './error.ts'

type Watched = {
  name: string
  look(uuid: string): Promise<ObservedVm | undefined>
  onChange(callback: (change: HostChange) => void): () => void
}

export async function untilVm(
  host: Watched,
  uuid: string,
  holds: (vm: ObservedVm | undefined) => boolean,
  options: { timeoutMs: number; signal?: AbortSignal; pollMs?: number }
): Promise<ObservedVm | undefined> {
  const { signal } = options
  let wake: (() => void) | undefined
  let changed = true
  const poke = () => {
    changed = true
    wake?.()
  }
  const deadline = performance.now() + options.timeoutMs
  const stop = host.onChange((change) => {
    if ((change.kind === 'vm' || change.kind === 'job') && change.uuid === uuid) poke()
  })
  signal?.addEventListener('abort', poke)
  try {
    for (;;) {
      if (signal?.aborted) throw new HostError('aborted', host.name, `${host.name}: stopped waiting for VM ${uuid}`)
      // Before the look: what changes during it is looked at again.
      changed = false
      const vm = await host.look(uuid)
      if (holds(vm)) return vm
      const leftMs = deadline - performance.now()
      if (leftMs <= 0) throw timeout(host.name, uuid, vm, options.timeoutMs)
      if (changed) continue
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.min(leftMs, options.pollMs ?? 1000))
        wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
      wake = undefined
    }
  } finally {
    signal?.removeEventListener('abort', poke)
    stop()
  }
}

function timeout(host: string, uuid: string, vm: ObservedVm | undefined, timeoutMs: number): HostError {
  const now = vm ? `${vm.name} is ${vm.power} (${vm.reason})` : `there is no VM ${uuid}`
  return new HostError('timeout', host, `${host}: after ${timeoutMs / 1000} s ${now}`)
}
