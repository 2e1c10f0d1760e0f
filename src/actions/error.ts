// Errors of tasks, made from errors of hosts: what libvirt said (by its code, never by its text), at which step, what to do next.
// Not for deciding what to do with them: that is attempt.ts.
import type { JsonObject } from '../db/json.ts'
import type { HostError, HostErrorCode, LibvirtFacts } from '../host/error.ts'
import type { TaskError } from '../queue/task.ts'

type Rule = {
  /** Becomes the error's code, behind `libvirt_`. */
  name: string
  next: string
  /** The same call may well succeed a little later. */
  transient?: true
}

// libvirt: include/libvirt/virterror.h (virErrorNumber). Only what tells an operator more than libvirt's own text is here.
const rules: Record<number, Rule> = {
  1: { name: 'internal_error', next: 'read the message and the log of libvirtd on the host, then retry the task' },
  2: { name: 'no_memory', next: 'free memory on the host, then retry the task', transient: true },
  3: { name: 'no_support', next: 'the host cannot do this: use another host, or a newer libvirt there' },
  8: { name: 'invalid_arg', next: 'look at the VM or pool as the host has it, then ask again with other values' },
  9: { name: 'operation_failed', next: 'read the message and the log of libvirtd on the host, then retry the task' },
  27: { name: 'xml_error', next: 'correct the definition' },
  28: { name: 'dom_exist', next: 'choose another name, or delete the VM that has it' },
  29: { name: 'operation_denied', next: 'connect to the host with an account that may write' },
  38: { name: 'system_error', next: 'check that the paths in the message exist on the host and may be opened there' },
  42: { name: 'no_domain', next: 'refresh the host: `taskomatic host refresh`, then look where the VM is' },
  43: { name: 'no_network', next: 'create or start the network on the host, or use another one' },
  45: { name: 'auth_failed', next: 'check the certificate or account used for the host' },
  49: { name: 'no_storage_pool', next: 'refresh the host, then create the pool or use another store' },
  50: { name: 'no_storage_vol', next: 'refresh the pool: `taskomatic pool refresh`, then look at its volumes' },
  55: { name: 'operation_invalid', next: 'look at the state of the VM or pool: it changed; then ask again' },
  67: { name: 'config_unsupported', next: 'change what the message names: the host cannot run it so' },
  68: {
    name: 'operation_timeout',
    next: 'another job holds the VM: wait for it or cancel it, then retry',
    transient: true
  },
  78: { name: 'operation_aborted', next: 'somebody aborted it: retry the task' },
  81: { name: 'migrate_unsafe', next: 'use a shared store that libvirt knows as safe, or ask with `--allow-unsafe`' },
  84: { name: 'operation_unsupported', next: 'the host or this VM cannot do that: see the message' },
  86: { name: 'agent_unresponsive', next: "the guest's agent does not answer: use ACPI, or force it", transient: true },
  87: { name: 'resource_busy', next: 'wait for what uses it, then retry', transient: true },
  88: { name: 'access_denied', next: "change the host's access rules or the account used for it" },
  90: { name: 'storage_vol_exist', next: 'choose another name for the volume, or delete the one that is there' },
  91: { name: 'cpu_incompatible', next: 'use a host whose CPU has what the VM needs, or change the CPU of the VM' },
  92: { name: 'xml_invalid_schema', next: 'correct the definition where the message says' }
}

const nextByCode: Record<HostErrorCode, string> = {
  refused: 'read what the host said, then retry the task',
  unknown_outcome: 'look at the host: it may have happened',
  unreachable: 'bring the host back, or ask for another host',
  timeout: 'look at the host: it may still happen; then retry the task',
  aborted: 'submit it again if it is still wanted',
  unknown_host: 'add the host: `taskomatic host add NAME URI`',
  wrong_identity: 'another machine answers at the address of the host: correct the address, or remove and add the host',
  fenced: 'another dispatcher goes on with it',
  bad_input: 'correct what the message names',
  unsupported: 'the host cannot do this'
}

/** `libvirt_operation_invalid` …: stable, from libvirt's number. */
function libvirtCode(libvirt: LibvirtFacts): string {
  const known = rules[libvirt.code]
  if (known) return `libvirt_${known.name}`
  const name = libvirt.codeName.replace(/^VIR_(ERR|WAR)_/, '').toLowerCase()
  return /^[a-z][a-z0-9_]*$/.test(name) ? `libvirt_${name}` : `libvirt_${libvirt.code}`
}

/** May the same call succeed a little later? Refusals by libvirt's number only. */
export const isTransient = (error: HostError): boolean =>
  error.libvirt !== undefined && rules[error.libvirt.code]?.transient === true

/** @param step what was being done; @param next overrides what the table says. */
export function errorOf(error: HostError, step: string, next?: string): TaskError {
  const { libvirt } = error
  const byLibvirt = libvirt && rules[libvirt.code]?.next
  const causes = causesOf(error)
  return {
    code: libvirt ? libvirtCode(libvirt) : `host_${error.code}`,
    message: error.message,
    step,
    next: next ?? byLibvirt ?? nextByCode[error.code],
    details: { host: error.host, ...(libvirt ? { libvirt: libvirtDetails(libvirt) } : {}) },
    ...(causes.length > 0 ? { causes } : {})
  }
}

const libvirtDetails = ({ code, codeName, domain, domainName, message }: LibvirtFacts): JsonObject => ({
  code,
  codeName,
  domain,
  domainName,
  message
})

const maxCauses = 8

/** The chain below an error, outermost first; bounded, since a chain may be a circle. */
function causesOf(error: Error): { code?: string; message: string }[] {
  const causes: { code?: string; message: string }[] = []
  let cause: unknown = error.cause
  while (cause instanceof Error && causes.length < maxCauses) {
    const code = 'code' in cause && typeof cause.code === 'string' ? { code: cause.code } : {}
    causes.push({ ...code, message: cause.message })
    cause = cause.cause
  }
  return causes
}

/** An error of our own finding: no host refused anything. */
export const ownError = (
  code: string,
  message: string,
  step: string,
  next: string,
  details?: JsonObject
): TaskError => ({
  code,
  message,
  step,
  next,
  ...(details ? { details } : {})
})
