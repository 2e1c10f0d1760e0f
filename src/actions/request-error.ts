// A request that is refused before anything is stored: what is wrong, where, by which rule, and the way out.

export type RequestStatus = 'bad_request' | 'not_found' | 'conflict' | 'too_large' | 'not_possible'

export class RequestError extends Error {
  override readonly name = 'RequestError'
  /** Stable, snake_case: `not_found`, `ambiguous`, `bad_name`, `bad_args`, `unknown_field`, or an action's own verdict. */
  readonly code: string
  readonly status: RequestStatus
  /** JSON pointer to the value within the request. */
  readonly pointer: string
  readonly next: string
  /** The open task that makes the request impossible. */
  readonly task: { id: number; title: string } | undefined
  readonly candidates: readonly string[]

  constructor(
    code: string,
    message: string,
    options: {
      pointer: string
      next: string
      status?: RequestStatus
      task?: { id: number; title: string } | undefined
      candidates?: readonly string[]
      cause?: unknown
    }
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.status = options.status ?? 'bad_request'
    this.pointer = options.pointer
    this.next = options.next
    this.task = options.task
    this.candidates = options.candidates ?? []
  }

  /** The same refusal, seen from further out. */
  within(prefix: string, task?: { id: number; title: string }): RequestError {
    return new RequestError(this.code, this.message, {
      pointer: prefix + this.pointer,
      next: this.next,
      status: this.status,
      task: task ?? this.task,
      candidates: this.candidates,
      cause: this
    })
  }
}
