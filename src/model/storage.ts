// Stores, pools and volumes: a store is where bytes are, a pool is one host's handle on a store.

/** What one host said of one pool. */
export type ObservedPool = {
  name: string
  uuid: string
  type: string
  /** Directory or device path that the pool appears at on its host. */
  target: string | null
  /** Canonical text of a remote source (host, export, target …), equal for two pools on one store; null for local ones. */
  source: string | null
  active: boolean
  persistent: boolean
  autostart: boolean
  capacityBytes: number
  allocationBytes: number
  availableBytes: number
  volumes: ObservedVolume[]
}

export type ObservedVolume = {
  name: string
  path: string
  format: string | null
  capacityBytes: number
  allocationBytes: number
  backing: string | null
}

export type ObservedNetwork = {
  name: string
  uuid: string
  active: boolean
  persistent: boolean
  autostart: boolean
  bridge: string | null
}
