// What a host says of itself.
import { ErrorCode, NodeCpuStat } from '../libvirt/constants.gen.ts'
import type { HostIdentity } from '../model/host.ts'
import { refusedWith, type HostCalls } from './calls.ts'

const ALL_CPUS = -1
const TIME_FIELDS: ReadonlySet<string> = new Set([
  NodeCpuStat.KERNEL,
  NodeCpuStat.USER,
  NodeCpuStat.IDLE,
  NodeCpuStat.IOWAIT,
  NodeCpuStat.INTR
])

export async function identify(calls: HostCalls): Promise<HostIdentity> {
  const [{ capabilities, uuid, libVersion }, { hostname }, version, info] = await Promise.all([
    calls.basics(),
    calls.read('CONNECT_GET_HOSTNAME', {}),
    calls.read('CONNECT_GET_VERSION', {}),
    calls.read('NODE_GET_INFO', {})
  ])
  return {
    uuid,
    hostname,
    libvirtVersion: versionText(libVersion),
    hypervisorVersion: versionText(Number(version.hv_ver)),
    arch: capabilities.arch,
    cpus: info.cpus,
    memoryMiB: Math.floor(Number(info.memory) / 1024),
    bootTime: await bootTime(calls, info.cpus),
    domainType: capabilities.domainType,
    emulator: capabilities.emulator,
    machine: capabilities.machine
  }
}

const versionText = (version: number): string =>
  `${Math.floor(version / 1e6)}.${Math.floor(version / 1e3) % 1e3}.${version % 1e3}`

// A CPU's time is spent on something, idling included: the sum over all CPUs is the uptime times their number.
async function bootTime(calls: HostCalls, cpus: number): Promise<number | null> {
  try {
    const asked = { cpuNum: ALL_CPUS, flags: 0 }
    const { nparams } = await calls.read('NODE_GET_CPU_STATS', { ...asked, nparams: 0 })
    const { params } = await calls.read('NODE_GET_CPU_STATS', { ...asked, nparams })
    const nanoseconds = params
      .filter((param) => TIME_FIELDS.has(param.field))
      .reduce((sum, param) => sum + Number(param.value), 0)
    return nanoseconds > 0 && cpus > 0 ? Math.round(Date.now() / 1000 - nanoseconds / 1e9 / cpus) : null
  } catch (error) {
    if (refusedWith(error, ErrorCode.NO_SUPPORT, ErrorCode.INVALID_ARG)) return null
    throw error
  }
}
