// What is asked of the world before a request is stored: a host that cannot be reached is refused at once, not queued.
import { RequestError } from '../src/actions/request-error.ts'
import type { Engine } from '../src/dispatcher/engine.ts'
import { HostError } from '../src/host/error.ts'
import type { Preflight } from '../src/http/submissions.ts'
import { quote } from '../src/model/name.ts'

/** Whoever submits waits for it. */
const REACH_TIMEOUT_MS = 10_000

export function preflight(engine: Engine): Preflight {
  return new Map([
    [
      'host.add',
      async (args) => {
        const { host, controlUri } = args as { host: string; controlUri: string }
        try {
          const { close } = await withTimeout(engine.hosts.connect({ name: host, controlUri }), host)
          await close()
        } catch (error) {
          if (!(error instanceof HostError)) throw error
          throw new RequestError(
            'host_unreachable',
            `no libvirtd answers at ${quote(controlUri, 200)}: ${error.message}`,
            {
              pointer: '/controlUri',
              // Nothing is wrong with the request as such.
              status: 'not_possible',
              next: 'check the address, that libvirtd runs and listens there, and that this server may log in; try `virsh -c URI hostname` as its user',
              cause: error
            }
          )
        }
      }
    ]
  ])
}

type Connected = Awaited<ReturnType<Engine['hosts']['connect']>>

async function withTimeout(connecting: Promise<Connected>, host: string): Promise<Connected> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(
    () => late.reject(new HostError('timeout', host, `no answer within ${REACH_TIMEOUT_MS / 1000} s`)),
    REACH_TIMEOUT_MS
  )
  try {
    return await Promise.race([connecting, late.promise])
  } catch (error) {
    // Should it come after all, it is not left open.
    connecting.then(({ close }) => close()).catch(() => undefined)
    throw error
  } finally {
    clearTimeout(timer)
  }
}
