// Errors of this layer.

export type IdentityErrorCode =
  /** The token's file cannot be read or made, or others may read it. */
  | 'token_file'
  /** No token was sent. */
  | 'missing_token'
  /** The token sent is not this server's. */
  | 'wrong_token'

export class IdentityError extends Error {
  override readonly name = 'IdentityError'
  readonly code: IdentityErrorCode
  constructor(code: IdentityErrorCode, message: string, options: { cause?: unknown } = {}) {
    super(message, options)
    this.code = code
  }
}
