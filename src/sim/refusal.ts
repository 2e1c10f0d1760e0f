// A host's "no", as libvirt says it: code, domain and the message with the words that libvirt puts before the detail.
// Source of the words: libvirt's src/util/virerror.c, checked against what virsh 9.0 prints.

import type { ErrorCode, ErrorDomain } from '../libvirt/constants.gen.ts'

export type RefusalCode = keyof typeof ErrorCode
export type RefusalDomain = keyof typeof ErrorDomain

const words: Partial<Record<RefusalCode, string>> = {
  INTERNAL_ERROR: 'internal error: ',
  NO_SUPPORT: 'this function is not supported by the connection driver: ',
  INVALID_ARG: 'invalid argument: ',
  OPERATION_FAILED: 'operation failed: ',
  XML_ERROR: 'XML error: ',
  NO_DOMAIN: 'Domain not found: ',
  NO_NETWORK: 'Network not found: ',
  NO_STORAGE_POOL: 'Storage pool not found: ',
  NO_STORAGE_VOL: 'Storage volume not found: ',
  NO_NODE_DEVICE: 'Node device not found: ',
  NO_INTERFACE: 'Interface not found: ',
  NO_SECRET: 'Secret not found: ',
  OPERATION_INVALID: 'Requested operation is not valid: ',
  CONFIG_UNSUPPORTED: 'unsupported configuration: ',
  OPERATION_TIMEOUT: 'Timed out during operation: ',
  NO_DOMAIN_SNAPSHOT: 'Domain snapshot not found: ',
  ARGUMENT_UNSUPPORTED: 'argument unsupported: ',
  OPERATION_ABORTED: 'operation aborted: ',
  NO_DOMAIN_METADATA: 'metadata not found: ',
  MIGRATE_UNSAFE: 'Unsafe migration: ',
  OPERATION_UNSUPPORTED: 'Operation not supported: ',
  AGENT_UNRESPONSIVE: 'Guest agent is not responding: ',
  XML_INVALID_SCHEMA: 'XML document failed to validate against schema: ',
  DEVICE_MISSING: 'device not found: '
}

/** Thrown by a handler; becomes the call's remote_error. */
export class Refusal extends Error {
  override readonly name = 'Refusal'
  readonly code: RefusalCode
  readonly domain: RefusalDomain
  constructor(code: RefusalCode, domain: RefusalDomain, message: string) {
    super(message)
    this.code = code
    this.domain = domain
  }
}

/** The error with libvirt's words before `detail`: `refuse('NO_DOMAIN', 'QEMU', "no domain with matching name 'a'")`. */
export function refuse(code: RefusalCode, domain: RefusalDomain, detail: string): Refusal {
  return new Refusal(code, domain, (words[code] ?? '') + detail)
}

export const notValid = (detail: string, domain: RefusalDomain = 'QEMU'): Refusal =>
  refuse('OPERATION_INVALID', domain, detail)
