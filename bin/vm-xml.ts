// A VM's definition for the API, read from its host when it is asked for. Secrets stay on the host.
import { RequestError } from '../src/actions/request-error.ts'
import type { Engine } from '../src/dispatcher/engine.ts'
import { HostError } from '../src/host/error.ts'
import type { ReadVmXml } from '../src/http/fleet.ts'

export const vmXmlReader =
  ({ hosts }: Engine): ReadVmXml =>
  async ({ uuid, host }) => {
    try {
      return await hosts.host(host).vmXml(uuid, { inactive: true, secure: false })
    } catch (error) {
      if (!(error instanceof HostError)) throw error
      throw new RequestError('host_silent', `the definition cannot be read: ${error.message}`, {
        pointer: '',
        next: `see \`taskomatic host show ${host}\`, then ask again`,
        status: 'conflict',
        cause: error
      })
    }
  }
