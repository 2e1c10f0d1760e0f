// A refusal as the bytes of a remote_error; what is no refusal is a fault of the simulation, and says so.

import { ErrorCode, ErrorDomain } from '../libvirt/constants.gen.ts'
import { encodeError } from '../libvirt/payload.ts'
import { XdrError } from '../libvirt/xdr.ts'
import { Refusal, refuse } from './refusal.ts'

export function errorPayload(error: unknown): Buffer {
  const known =
    error instanceof Refusal
      ? error
      : error instanceof XdrError
        ? new Refusal('RPC', 'RPC', `Unable to decode message payload: ${error.message}`)
        : refuse(
            'INTERNAL_ERROR',
            'NONE',
            `the simulated host failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`
          )
  return encodeError({
    code: ErrorCode[known.code],
    domain: ErrorDomain[known.domain],
    message: known.message,
    level: 2,
    dom: null,
    str1: '%s',
    str2: known.message,
    str3: null,
    int1: -1,
    int2: -1,
    net: null
  })
}
