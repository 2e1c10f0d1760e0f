// One row for every action: how the stage is set for it, what asking for it again gives, and what its undoing leaves.
import type { JsonObject } from '../../src/db/json.ts'
import { fleetRows } from './every-action-rows-fleet.ts'
import type { Place } from './every-action-place.ts'
import { storageRows } from './every-action-rows-storage.ts'
import { vmRows } from './every-action-rows-vm.ts'

export type Row = {
  /** Makes what the action needs; its arguments. */
  stage(place: Place): Promise<JsonObject>
  /**
   * Asked for with the same arguments right after it was done. Nothing to do: complete, without a call that changes anything, and all is
   * as it was.
   */
  again: 'nothing to do' | 'done again' | `refused: ${string}`
  /** `undone`: all is as it was before. `leaves`: but for lines about what is named. Else why its plan cannot be undone. */
  undo: 'undone' | `impossible: ${string}` | { leaves: string; because: string }
  /** Needs a second host with a store in common. */
  peer?: true
  /** Puts right what a stage or the action did to the hosts themselves. */
  tidy?(place: Place): Promise<void>
  /** Its calls are those of its parts, which have rows of their own: none of them goes wrong here. */
  parts?: true
  /** It may fail half-way: what it did is put back where its plan rolls back. */
  half?: true
  /** What is left, as lines about what is named, where a call was refused (`PROCEDURE nth`) or did not arrive, and why that is right. */
  refused?: { readonly [call: string]: { leaves: string; because: string; alsoLost?: true } }
}

export const rows: { readonly [action: string]: Row } = { ...fleetRows, ...storageRows, ...vmRows }
