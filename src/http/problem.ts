// Every error as a problem+json, and the one table that gives codes their status and title. What a fault says stays in the log:
// the client gets the request's id.
import type { Problem } from '../api/problem.ts'
import { RequestError } from '../actions/request-error.ts'
import { InventoryError } from '../inventory/error.ts'
import { IdentityError } from '../identity/error.ts'

export class HttpError extends Error {
  override readonly name = 'HttpError'
  readonly status: number
  readonly code: string
  readonly next: string
  readonly pointer: string | undefined
  constructor(
    status: number,
    code: string,
    message: string,
    options: { next: string; pointer?: string; cause?: unknown }
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.status = status
    this.code = code
    this.next = options.next
    this.pointer = options.pointer
  }
}

const statusOf = { bad_request: 400, not_found: 404, conflict: 409, too_large: 413, not_possible: 422 } as const

/** Verdicts of actions that are about the request alone, whatever the fleet is like. */
const badInput: ReadonlySet<string> = new Set([
  'bad_xml',
  'bad_path',
  'bad_pool',
  'bad_network',
  'bad_disk',
  'bad_nic',
  'missing_field',
  'xml_and_fields',
  'xml_needs_host',
  'volume_twice',
  'host_twice'
])

const titleOf: Record<number, string> = {
  400: 'The request cannot be understood',
  401: 'Who are you?',
  403: 'Not allowed',
  404: 'There is no such thing',
  405: 'Not possible here',
  408: 'The request took too long to arrive',
  409: 'In conflict with what is there',
  413: 'The request is too large',
  415: 'Only application/json is understood',
  422: 'Not possible',
  429: 'Too many requests',
  431: 'The headers are too large',
  500: 'Something broke here',
  503: 'Not possible right now',
  507: 'There is no room'
}

type Part = Omit<Problem, 'type' | 'title' | 'instance'>

/** @param instance the request's id */
export function problemOf(error: unknown, instance: string): Problem {
  const part = partOf(error)
  return { type: `urn:taskomatic:problem:${part.code}`, title: titleOf[part.status] ?? 'Error', ...part, instance }
}

function partOf(error: unknown): Part {
  if (error instanceof HttpError) return { ...named(error, error.status), ...pointed(error.pointer) }
  if (error instanceof RequestError) {
    return {
      ...named(error, badInput.has(error.code) ? 400 : statusOf[error.status]),
      ...pointed(error.pointer),
      ...(error.task ? { task: error.task } : {}),
      ...(error.candidates.length > 0 ? { candidates: [...error.candidates] } : {})
    }
  }
  if (error instanceof IdentityError) {
    const next =
      "the token is in the file `token` of the server's state directory; the command reads it there, or from TASKOMATIC_TOKEN"
    return { status: 401, code: error.code, detail: error.message, next }
  }
  return layerPart(error) ?? frameworkPart(error) ?? fault
}

const named = (error: { code: string; message: string; next: string }, status: number): Part => ({
  status,
  code: error.code,
  detail: error.message,
  next: error.next
})
const pointed = (pointer: string | undefined) => (pointer ? { pointer } : {})

const fault: Part = {
  status: 500,
  code: 'internal',
  detail: 'The server failed at this request; nothing more is said here.',
  next: "look for the request id in the server's log"
}

const errorFields = (
  error: unknown
): { name?: string; code?: string; message?: string; statusCode?: number; shortage?: string } =>
  typeof error === 'object' && error !== null ? error : {}

// Layers below are told apart by their error class's name and code: this table is all that HTTP knows of them.
function layerPart(error: unknown): Part | undefined {
  const { name, code, message = '', shortage } = errorFields(error)
  if (name === 'QueueError') return queuePart(code ?? '', message)
  if (name === 'StagingError') return stagingPart(code ?? '', message)
  if (error instanceof InventoryError) return inventoryPart(error)
  if (name !== 'DatabaseError') return undefined
  switch (code) {
    case 'unavailable':
    case 'stopped':
      return { status: 503, ...(shortages[shortage ?? ''] ?? unreachable) }
    case 'timeout':
      return {
        status: 503,
        code: 'database_slow',
        detail: 'The database took too long.',
        next: 'ask for less, or try again later'
      }
    case 'conflict':
      return {
        status: 503,
        code: 'database_busy',
        detail: 'Others changed the same things at the same time.',
        next: 'try again'
      }
    case 'outcome_unknown':
      return {
        status: 503,
        code: 'outcome_unknown',
        detail: 'The connection to the database was lost while the request was committed: it may have been accepted.',
        next: 'send the same request again with the same Idempotency-Key, or look at the list of tasks'
      }
    default:
      return undefined
  }
}

const unreachable = {
  code: 'database_unavailable',
  detail: 'The database cannot be reached.',
  next: 'try again in a few seconds'
}

// What the database lacks is for its operator to mend; this server goes on by itself as soon as that is done.
const shortages: { readonly [shortage: string]: Omit<Part, 'status'> } = {
  disk_full: {
    code: 'database_disk_full',
    detail: 'The disk of the database is full: nothing can be stored. What is stored can be read.',
    next: "make room on the database's disk, then try again"
  },
  too_many_connections: {
    code: 'database_connections_exhausted',
    detail: 'The database takes no more connections: all it allows are in use.',
    next: 'try again in a few seconds; if it stays so, look who holds them (pg_stat_activity), or raise max_connections'
  },
  no_free_connection: {
    code: 'database_connections_exhausted',
    detail: 'No connection to the database was to be had in time: all of them are busy, or it does not answer.',
    next: 'try again in a few seconds'
  },
  out_of_memory: {
    code: 'database_out_of_memory',
    detail: 'The database is out of memory.',
    next: 'try again in a few seconds, or ask for less'
  },
  certificate: {
    code: 'database_certificate',
    detail: "The database's TLS certificate is not valid: it has expired, or is not the one that is expected.",
    next: "renew it on the database's side; the server's log says what is wrong with it"
  }
}

function stagingPart(code: string, message: string): Part | undefined {
  const part = stagingStatus[code]
  return part && { code, detail: message, ...part }
}

const stagingStatus: Partial<Record<string, { status: number; next: string }>> = {
  too_large: { status: 413, next: 'bring it to the host another way, then `taskomatic pool refresh`' },
  no_room: {
    status: 507,
    next: "make room on the server's disk, or wait until other uploads have reached their hosts"
  },
  incomplete: { status: 400, next: 'send all of it again' },
  wrong_checksum: { status: 400, next: 'send it again, or look whether the file is whole' },
  bad_image: { status: 422, next: 'convert the image as the message says, e.g. `qemu-img convert -O qcow2 FROM TO`' }
}

function inventoryPart({ code, message, candidates }: InventoryError): Part | undefined {
  const part = inventoryStatus[code]
  return part && { code, detail: message, ...part, ...(candidates.length > 0 ? { candidates: [...candidates] } : {}) }
}

const inventoryStatus: Partial<Record<InventoryError['code'], { status: number; next: string }>> = {
  not_found: { status: 404, next: 'see the list: `taskomatic vm list`' },
  ambiguous: { status: 409, next: 'write one of these, or the UUID' },
  bad_input: { status: 400, next: 'correct it' }
}

function queuePart(code: string, message: string): Part | undefined {
  const status = queueStatus[code]
  return status === undefined
    ? undefined
    : { status, code, detail: message, next: queueNext[code] ?? 'look at the task: `taskomatic task show ID`' }
}

const queueStatus: Partial<Record<string, number>> = {
  task_not_found: 404,
  plan_not_found: 404,
  invalid_submission: 400,
  too_many_tasks: 413,
  circle: 409,
  later_position: 409,
  prerequisite_ended_badly: 409,
  idempotency_mismatch: 409,
  already_started: 409,
  already_ended: 409,
  not_ended: 409,
  not_held: 409,
  not_uncertain: 409,
  parent_ended: 409,
  parent_decides: 409,
  asked_to_stop: 409
}
const queueNext: Partial<Record<string, string>> = {
  task_not_found: 'see `taskomatic task list`',
  plan_not_found: 'see `taskomatic task list`',
  invalid_submission: 'correct it',
  too_many_tasks: 'split it into several plans',
  circle: 'leave out one of the prerequisites',
  later_position: 'wait for tasks that were submitted before',
  prerequisite_ended_badly: 'retry that task first, or leave it out of `after`',
  idempotency_mismatch: 'send another Idempotency-Key with another request',
  already_started: 'cancel it: `taskomatic task cancel ID`',
  already_ended: 'it can be tried again: `taskomatic task retry ID`',
  not_ended: 'wait for its end, or cancel it: `taskomatic task cancel ID`',
  not_held: 'see `taskomatic task why ID`',
  parent_decides: 'retry the task that it is part of'
}

function frameworkPart(error: unknown): Part | undefined {
  const { code, statusCode } = errorFields(error)
  const part = code === undefined ? undefined : framework[code]
  if (part) return part
  if (statusCode === undefined || statusCode < 400 || statusCode >= 500) return undefined
  return {
    status: statusCode,
    code: 'bad_request',
    detail: titleOf[statusCode] ?? 'Bad request',
    next: 'see /api/v1/openapi.json'
  }
}

const badJson: Part = {
  status: 400,
  code: 'bad_json',
  detail: 'The body is not valid JSON, or has keys such as __proto__.',
  next: 'send one JSON value'
}
const framework: Record<string, Part> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: {
    status: 415,
    code: 'bad_media_type',
    detail: 'Only application/json is understood.',
    next: 'send JSON with `Content-Type: application/json`'
  },
  FST_ERR_CTP_BODY_TOO_LARGE: {
    status: 413,
    code: 'body_too_large',
    detail: 'The body is larger than this endpoint takes.',
    next: 'send less: see the limit in /api/v1/openapi.json, or split a plan'
  },
  FST_ERR_CTP_EMPTY_JSON_BODY: {
    ...badJson,
    detail: 'The body is empty.',
    next: 'send a JSON body, or no Content-Type'
  },
  FST_ERR_CTP_INVALID_JSON_BODY: badJson,
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: {
    status: 400,
    code: 'bad_content_length',
    detail: 'The body is not as long as Content-Length says.',
    next: 'send the right length'
  },
  FST_ERR_BAD_URL: { status: 400, code: 'bad_url', detail: 'The path is not a valid URL.', next: 'encode it' }
}
