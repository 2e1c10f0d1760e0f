// What a host is: identity, addresses and size, as data.

export type HostIdentity = {
  /** From its capabilities; two hosts with one UUID are refused, a connection that answers another UUID is not used. */
  uuid: string
  hostname: string
  libvirtVersion: string
  hypervisorVersion: string
  arch: string
  cpus: number
  memoryMiB: number
  /** Seconds since the epoch, to ± a few seconds: now − ΣCPU time / CPUs. */
  bootTime: number | null
  /** `kvm` where the host has it, else `qemu` (emulation) or `test`. */
  domainType: string
  emulator: string | null
  machine: string | null
}

export type HostAddress = {
  /** How we reach its libvirtd. */
  controlUri: string
  /** How other hosts reach its libvirtd for peer-to-peer migration; the control URI where they are the same. */
  peerUri: string | null
  /** The network for the memory stream, e.g. `tcp://10.0.0.1`; libvirt's choice where null. */
  migrationUri: string | null
}

export type HostConnection = 'up' | 'down' | 'unknown'
