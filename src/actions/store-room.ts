// Which new volumes can never fit their store, and what volumes a request makes. Whether there is room just now is decided as the task
// starts (src/dispatcher/store-room.ts): until then it waits.
import type { FleetState } from '../inventory/fleet-state.ts'
import type { VolumeNeed } from '../inventory/store-room.ts'
import { memoryText } from '../model/memory-text.ts'
import { quote } from '../model/name.ts'
import { impossible, type Verdict } from './action.ts'
import type { PlannedDisk } from './vm-create-disks.ts'

const mebibyte = 1024 * 1024

/** A store of which no pool has told its size yet refuses nothing. */
export function refuseTooLarge(
  state: FleetState,
  store: string,
  volume: { format: string; capacityBytes: number }
): Verdict | undefined {
  const facts = state.store(store)
  const pools = Object.entries(facts?.pools ?? {}).flatMap(([host, pool]) =>
    pool?.active ? (state.pool(host, pool.pool) ?? []) : []
  )
  const whole = Math.max(0, ...pools.map(({ capacityBytes }) => capacityBytes))
  const percent = (volume.format === 'raw' ? facts?.rawPercent : facts?.thinPercent) ?? 0
  const counted = Math.ceil((volume.capacityBytes * percent) / 100)
  if (whole === 0 || counted <= whole) return undefined
  const size = (bytes: number) => memoryText(Math.floor(bytes / mebibyte))
  const of = percent === 100 ? '' : ` (${percent} % of ${size(volume.capacityBytes)}, since it grows as it is filled)`
  return impossible(
    'store_too_small',
    `store ${quote(store)} has ${size(whole)} in all, and the volume counts ${size(counted)}${of}`,
    'make a smaller one, or use another store'
  )
}

/** Of disks that are planned: those whose volumes are made. The disc for a first boot is too small to count. */
export const volumesOf = (disks: readonly PlannedDisk[], state: FleetState): VolumeNeed[] =>
  disks.flatMap(({ origin, store, volume, format, capacityBytes, from }) => {
    if (origin === 'existing' || origin === 'seed') return []
    const source = from ? state.volume(from.store, from.volume) : undefined
    return [{ store, volume, format, capacityBytes: capacityBytes ?? source?.capacityBytes ?? 0 }]
  })
