// A host's virtual networks.
import { ErrorCode } from '../libvirt/constants.gen.ts'
import type { Network } from '../libvirt/wire.gen.ts'
import type { ObservedNetwork } from '../model/storage.ts'
import { refusedWith, toHostError, type HostCalls } from './calls.ts'
import { bridgeIn, networkXml, type NetworkSpec } from './network-xml.ts'

export type { NetworkSpec } from './network-xml.ts'

export interface Networks {
  /** undefined = the host says that there is none of that name. */
  network(name: string): Promise<ObservedNetwork | undefined>
  /** Defines; the host's own parser says whether it is good. A text is a definition by hand. */
  defineNetwork(network: NetworkSpec | string): Promise<void>
  startNetwork(name: string): Promise<void>
  stopNetwork(name: string): Promise<void>
  undefineNetwork(name: string): Promise<void>
  setNetworkAutostart(name: string, on: boolean): Promise<void>
}

export function networksOf(calls: HostCalls): Networks {
  const find = async (name: string): Promise<Network> => (await calls.read('NETWORK_LOOKUP_BY_NAME', { name })).net
  return {
    async network(name) {
      try {
        const net = await find(name)
        const [active, persistent, autostart, { xml }] = await Promise.all([
          calls.read('NETWORK_IS_ACTIVE', { net }),
          calls.read('NETWORK_IS_PERSISTENT', { net }),
          calls.read('NETWORK_GET_AUTOSTART', { net }),
          calls.read('NETWORK_GET_XML_DESC', { net, flags: 0 })
        ])
        return {
          name: net.name,
          uuid: net.uuid,
          active: active.active !== 0,
          persistent: persistent.persistent !== 0,
          autostart: autostart.autostart !== 0,
          bridge: bridgeIn(xml)
        }
      } catch (error) {
        if (refusedWith(error, ErrorCode.NO_NETWORK)) return undefined
        throw error
      }
    },
    async defineNetwork(network) {
      let xml: string
      try {
        xml = typeof network === 'string' ? network : networkXml(network)
      } catch (error) {
        throw toHostError(error, calls.name, true)
      }
      await calls.write('NETWORK_DEFINE_XML', { xml })
    },
    // Starting one makes a bridge, firewall rules and a DHCP server.
    async startNetwork(name) {
      await calls.long('NETWORK_CREATE', { net: await find(name) })
    },
    async stopNetwork(name) {
      await calls.long('NETWORK_DESTROY', { net: await find(name) })
    },
    async undefineNetwork(name) {
      await calls.write('NETWORK_UNDEFINE', { net: await find(name) })
    },
    async setNetworkAutostart(name, on) {
      await calls.write('NETWORK_SET_AUTOSTART', { net: await find(name), autostart: on ? 1 : 0 })
    }
  }
}
