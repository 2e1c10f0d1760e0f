// Whether a new volume fits its store. Raw volumes count whole: they may be filled without anybody being asked again. A qcow2 volume
// grows as it is filled, and counts as a part of its size. What fills up behind that is the pool's health, shown where pools are listed.
import type { FleetState } from '../inventory/fleet-state.ts'
import { quote } from '../model/name.ts'
import { impossible, type Verdict } from './action.ts'

/** Of a qcow2 volume this part of its size must be free when it is made. */
const thinShare = 0.25

export const countedBytes = (format: string, capacityBytes: number): number =>
  format === 'raw' ? capacityBytes : Math.ceil(capacityBytes * thinShare)

const gibibytes = (bytes: number): string => `${(bytes / 1024 ** 3).toFixed(1)} GiB`

/** A store of which no pool has told its size yet refuses nothing. */
export function refuseFull(
  state: FleetState,
  store: string,
  volume: { format: string; capacityBytes: number }
): Verdict | undefined {
  const pools = Object.entries(state.store(store)?.pools ?? {}).flatMap(([host, pool]) =>
    pool?.active ? (state.pool(host, pool.pool) ?? []) : []
  )
  const told = pools.filter(({ capacityBytes }) => capacityBytes > 0)
  const free = Math.max(...told.map(({ availableBytes }) => availableBytes))
  const wanted = countedBytes(volume.format, volume.capacityBytes)
  if (told.length === 0 || wanted <= free) return undefined
  const of =
    volume.format === 'raw' ? '' : ` (a quarter of ${gibibytes(volume.capacityBytes)}, since it grows as it is filled)`
  return impossible(
    'store_full',
    `store ${quote(store)} has ${gibibytes(free)} free, and the volume counts ${gibibytes(wanted)}${of}`,
    'delete volumes that nobody needs, make a smaller one, or use another store'
  )
}
