// Errors of this layer: what is asked for cannot be held true of the fleet.

export type InventoryErrorCode =
  | 'unknown_host'
  | 'unknown_store'
  | 'unknown_pool'
  /** The name, or the machine behind it, is in the inventory already. */
  | 'duplicate_host'
  | 'ambiguous'
  | 'not_found'
  /** The store's name is taken by a store that these pools are not part of, or a pool's source says otherwise. */
  | 'store_conflict'
  /** A kept definition cannot be read: another key, or its bytes were changed. */
  | 'sealed'
  | 'bad_input'

export class InventoryError extends Error {
  override readonly name = 'InventoryError'
  readonly code: InventoryErrorCode
  /** What else it could be, for `ambiguous` and `not_found`. */
  readonly candidates: readonly string[]
  constructor(
    code: InventoryErrorCode,
    message: string,
    options: { candidates?: readonly string[]; cause?: unknown } = {}
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.candidates = options.candidates ?? []
  }
}
