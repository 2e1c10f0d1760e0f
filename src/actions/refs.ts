// References and new names in actions' arguments: the schemas, and how a reference becomes what it names.
// A VM may be written `web1`, `web1@h1` or as its UUID; actions only ever see the UUID. Other things go by name.
import { Type, type TSchema } from 'typebox'
import type { Json, JsonObject } from '../db/json.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import type { VmFacts } from '../inventory/facts.ts'
import { nameProblem, nameRule, quote, type NameKind } from '../model/name.ts'
import { RequestError } from './request-error.ts'

type RefKind = 'vm' | 'host' | 'store' | 'volume'

const ref = (kind: RefKind, pattern: string, maxLength: number, rule: string, description: string) =>
  Type.String({ 'x-ref': kind, 'x-rule': rule, minLength: 1, maxLength, pattern, description })

const plain = '[A-Za-z0-9][A-Za-z0-9._-]*'

export const VmRef = ref(
  'vm',
  `^${plain}(@[a-z0-9][a-z0-9.-]*)?$`,
  127,
  'written as NAME, NAME@HOST or UUID',
  'VM: NAME, NAME@HOST or UUID'
)
export const HostRef = ref(
  'host',
  nameRule('host').pattern,
  nameRule('host').maxLength,
  `made of ${nameRule('host').rule}`,
  'Host, by name'
)
export const StoreRef = ref(
  'store',
  nameRule('store').pattern,
  nameRule('store').maxLength,
  nameRule('store').rule,
  'Store: a shared one by name, a local one as HOST/POOL'
)
export const VolumeRef = ref(
  'volume',
  `^${plain}(/${plain})?/[A-Za-z0-9][A-Za-z0-9._+-]*$`,
  255,
  'written as STORE/NAME, e.g. nfs1/web1.qcow2 or h1/default/web1.qcow2',
  'Volume: STORE/NAME'
)

/** One line for people: a reason, a description. */
export const lineOfText = (description: string, maxLength = 500) =>
  Type.String({
    description,
    minLength: 1,
    maxLength,
    pattern: '^[^\\x00-\\x1f\\x7f]+$',
    'x-rule': 'one line of text'
  })

/** A name that is to be given, or that needs its host beside it to mean something (a pool). */
export const newName = (kind: NameKind, description: string) => {
  const { pattern, maxLength, rule } = nameRule(kind)
  return Type.String({ 'x-name': kind, 'x-rule': `made of ${rule}`, minLength: 1, maxLength, pattern, description })
}

/** `nfs1/web1.qcow2` → store `nfs1`, volume `web1.qcow2`; the store of `h1/default/a` is `h1/default`. */
export function splitVolume(volumeRef: string): { store: string; volume: string } {
  const at = volumeRef.lastIndexOf('/')
  return { store: volumeRef.slice(0, at), volume: volumeRef.slice(at + 1) }
}

const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

type Annotated = TSchema & {
  'x-ref'?: RefKind
  'x-name'?: NameKind
  properties?: Record<string, TSchema>
  items?: TSchema
}

/**
 * Replaces every reference in arguments that already fit their schema.
 * @throws RequestError `not_found` or `ambiguous`, naming the value, the rule and the way out; NotLoaded
 */
export function resolveRefs(schema: TSchema, args: JsonObject, state: FleetState): JsonObject {
  return walk(schema, args, '', state) as JsonObject
}

function walk(schema: Annotated, value: Json, pointer: string, state: FleetState): Json {
  if (typeof value === 'string') return resolveText(schema, value, pointer, state)
  if (Array.isArray(value)) {
    const items = schema.items
    return items ? value.map((item, index) => walk(items, item, `${pointer}/${index}`, state)) : value
  }
  if (value === null || typeof value !== 'object' || !schema.properties) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => {
      const property = schema.properties?.[key]
      return [key, property ? walk(property, item, `${pointer}/${key}`, state) : item]
    })
  )
}

function resolveText(schema: Annotated, value: string, pointer: string, state: FleetState): string {
  const named = schema['x-name']
  const problem = named && nameProblem(named, value)
  if (problem) throw new RequestError('bad_name', problem, { pointer, next: 'choose another name' })
  switch (schema['x-ref']) {
    case 'vm':
      return resolveVm(value, pointer, state)
    case 'host':
      if (!state.host(value))
        throw unknown('host', value, pointer, 'see `taskomatic host list`, or add it: `taskomatic host add NAME URI`')
      return value
    case 'store':
      if (!state.store(value))
        throw unknown(
          'store',
          value,
          pointer,
          'see `taskomatic store list`; a pool makes one: `taskomatic pool create`'
        )
      return value
    case 'volume': {
      const { store, volume } = splitVolume(value)
      if (!state.volume(store, volume))
        throw unknown('volume', value, pointer, `see \`taskomatic volume list --store ${store}\``)
      return value
    }
    default:
      return value
  }
}

const unknown = (kind: string, value: string, pointer: string, next: string) =>
  new RequestError('not_found', `there is no ${kind} ${quote(value)}`, { pointer, next, status: 'not_found' })

function resolveVm(value: string, pointer: string, state: FleetState): string {
  if (uuidPattern.test(value)) {
    const vm = state.vm(value.toLowerCase())
    if (!vm) throw unknown('VM', value, pointer, 'see `taskomatic vm list`')
    return vm.uuid
  }
  const [name = '', host] = value.split('@')
  const all = state.vmsNamed(name)
  const fitting = host === undefined ? all : all.filter((vm) => isOn(vm, host))
  const [first, second] = fitting
  if (!first) {
    const elsewhere = all.length > 0 ? `; ${quote(name)} is on ${all.map((vm) => vm.home).join(', ')}` : ''
    throw unknown('VM', value, pointer, `see \`taskomatic vm list\`${elsewhere}`)
  }
  if (!second) return first.uuid
  const candidates = fitting.map((vm) => (host === undefined ? `${vm.name}@${vm.home}` : vm.uuid)).toSorted()
  throw new RequestError('ambiguous', `${quote(value)} names ${fitting.length} VMs: ${candidates.join(', ')}`, {
    pointer,
    next: 'write one of these, or the UUID',
    candidates,
    status: 'conflict'
  })
}

const isOn = (vm: VmFacts, host: string): boolean => vm.home === host || vm.activeOn === host || host in vm.elsewhere
