// Errors of this layer: why bytes were not kept, or are not there.

export type StagingErrorCode =
  /** More than a volume may have here. */
  | 'too_large'
  /** The disk of the server has no room for them. */
  | 'no_room'
  /** Fewer or other bytes came than were announced. */
  | 'incomplete'
  | 'wrong_checksum'
  /** An image that names other files, or of a format that is not taken. */
  | 'bad_image'
  | 'not_found'
  /** What is kept is not what came. */
  | 'damaged'
  /** Whoever was to take or give the bytes has left, or did not come. */
  | 'nobody_there'

export class StagingError extends Error {
  override readonly name = 'StagingError'
  readonly code: StagingErrorCode
  constructor(code: StagingErrorCode, message: string, options: { cause?: unknown } = {}) {
    super(message, options)
    this.code = code
  }
}
