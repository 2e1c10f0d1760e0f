// Procedures about the connection and the machine itself.

import { DriverFeature, NodeCpuStat, NodeMemoryStat } from '../libvirt/constants.gen.ts'
import type { Handlers } from './call.ts'
import { capabilitiesXml, domainCapabilitiesXml } from './capabilities.ts'
import type { SimHost } from './host.ts'
import { refuse } from './refusal.ts'

/** As libvirt encodes versions: major × 1,000,000 + minor × 1000 + release. */
const libvirtVersion = 9_000_000n
const qemuVersion = 7_002_022n

const features = new Set<number>([
  DriverFeature.REMOTE,
  DriverFeature.MIGRATION_P2P,
  DriverFeature.MIGRATION_V3,
  DriverFeature.MIGRATE_CHANGE_PROTECTION,
  DriverFeature.TYPED_PARAM_STRING,
  DriverFeature.PROGRAM_KEEPALIVE,
  DriverFeature.XML_MIGRATABLE,
  DriverFeature.MIGRATION_OFFLINE,
  DriverFeature.MIGRATION_PARAMS,
  DriverFeature.REMOTE_EVENT_CALLBACK,
  DriverFeature.REMOTE_CLOSE_CALLBACK,
  DriverFeature.NETWORK_UPDATE_HAS_CORRECT_ORDER
])

/** Idle and busy time of one processor since the host's boot: their sum over all gives the boot time away. */
function cpuTimes(host: SimHost): Record<string, bigint> {
  const up = BigInt(Date.now() - host.bootedAt) * 1_000_000n
  const { KERNEL, USER, IDLE, IOWAIT } = NodeCpuStat
  return { [KERNEL]: up / 20n, [USER]: up / 10n, [IDLE]: up - up / 20n - up / 10n, [IOWAIT]: 0n }
}

const freeBytes = (host: SimHost): bigint => BigInt(Math.max(0, host.settings.memoryMiB - host.usedMiB)) * 1024n * 1024n

export const nodeCalls: Handlers = {
  AUTH_LIST: () => ({ types: [0] }),
  CONNECT_OPEN: ({ name }, _, { session }) => {
    if (name !== null && name !== '' && !name.startsWith('qemu:///system'))
      throw refuse('NO_CONNECT', 'NONE', `no connection driver available for ${name}`)
    session.opened = true
    return {}
  },
  CONNECT_CLOSE: () => ({}),
  CONNECT_SUPPORTS_FEATURE: ({ feature }, _, { session }) => {
    if (feature === DriverFeature.PROGRAM_KEEPALIVE) session.startKeepalive()
    return { supported: features.has(feature) ? 1 : 0 }
  },
  CONNECT_GET_TYPE: () => ({ type: 'QEMU' }),
  CONNECT_GET_URI: () => ({ uri: 'qemu:///system' }),
  CONNECT_GET_VERSION: () => ({ hv_ver: qemuVersion }),
  CONNECT_GET_LIB_VERSION: () => ({ lib_ver: libvirtVersion }),
  CONNECT_GET_HOSTNAME: (_, host) => ({ hostname: host.name }),
  CONNECT_GET_CAPABILITIES: (_, host) => ({ capabilities: capabilitiesXml(host) }),
  CONNECT_GET_DOMAIN_CAPABILITIES: ({ machine, virttype, emulatorbin, arch }) => {
    if (arch !== null && arch !== 'x86_64') throw refuse('INVALID_ARG', 'QEMU', `unknown architecture: ${arch}`)
    if (emulatorbin !== null && emulatorbin !== '/usr/bin/qemu-system-x86_64')
      throw refuse('INVALID_ARG', 'QEMU', `unable to find any emulator to serve '${emulatorbin}' architecture`)
    const full = machine === 'q35' ? 'pc-q35-7.2' : machine === null || machine === 'pc' ? 'pc-i440fx-7.2' : machine
    return { capabilities: domainCapabilitiesXml(full, virttype ?? 'kvm') }
  },
  CONNECT_GET_SYSINFO: () => {
    throw refuse('CONFIG_UNSUPPORTED', 'QEMU', 'Host SMBIOS information is not available')
  },
  CONNECT_GET_MAX_VCPUS: () => ({ max_vcpus: 255 }),
  CONNECT_IS_SECURE: () => ({ secure: 1 }),
  CONNECT_COMPARE_CPU: () => ({ result: 2 }),
  CONNECT_COMPARE_HYPERVISOR_CPU: () => ({ result: 2 }),
  CONNECT_SET_IDENTITY: () => ({}),
  CONNECT_REGISTER_CLOSE_CALLBACK: (_, __, { session }) => {
    session.closeCallback = true
    return {}
  },
  CONNECT_UNREGISTER_CLOSE_CALLBACK: (_, __, { session }) => {
    session.closeCallback = false
    return {}
  },
  CONNECT_LIST_ALL_INTERFACES: () => ({ ifaces: [], ret: 0 }),
  CONNECT_LIST_ALL_NODE_DEVICES: () => ({ devices: [], ret: 0 }),
  CONNECT_LIST_ALL_SECRETS: () => ({ secrets: [], ret: 0 }),
  NODE_GET_INFO: (_, host) => {
    const { cpus, memoryMiB } = host.settings
    return {
      model: 'x86_64',
      memory: BigInt(memoryMiB) * 1024n,
      cpus,
      mhz: 2400,
      nodes: 1,
      sockets: 1,
      cores: cpus,
      threads: 1
    }
  },
  NODE_GET_CPU_STATS: ({ cpuNum, nparams }, host) => {
    const count = BigInt(cpuNum === -1 ? host.settings.cpus : 1)
    const params = Object.entries(cpuTimes(host)).map(([field, value]) => ({ field, value: value * count }))
    return { params: nparams === 0 ? [] : params, nparams: params.length }
  },
  NODE_GET_MEMORY_STATS: ({ nparams }, host) => {
    const { TOTAL, FREE, BUFFERS, CACHED } = NodeMemoryStat
    const values = {
      [TOTAL]: BigInt(host.settings.memoryMiB) * 1024n,
      [FREE]: freeBytes(host) / 1024n,
      [BUFFERS]: 0n,
      [CACHED]: 0n
    }
    const params = Object.entries(values).map(([field, value]) => ({ field, value }))
    return { params: nparams === 0 ? [] : params, nparams: params.length }
  },
  NODE_GET_FREE_MEMORY: (_, host) => ({ freeMem: freeBytes(host) }),
  NODE_GET_CELLS_FREE_MEMORY: (_, host) => ({ cells: [freeBytes(host)] }),
  NODE_GET_CPU_MAP: (_, host) => {
    const { cpus } = host.settings
    return { cpumap: new Uint8Array(Math.ceil(cpus / 8)).fill(255), online: cpus, ret: cpus }
  },
  NODE_GET_SECURITY_MODEL: () => ({ model: 'none', doi: '0' })
}
