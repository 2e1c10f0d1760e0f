// Random requests for any action, made from its schema: references name what may be there, names come from small sets, numbers and
// words are plausible. So that a new action takes part as soon as it is in the registry. Many requests are impossible: that is
// part of the game.
import type { TSchema } from 'typebox'
import type { Action } from '../../src/actions/action.ts'
import type { Json, JsonObject } from '../../src/db/json.ts'
import type { Dice } from '../queue/dice.ts'

type Shape = TSchema & {
  'x-ref'?: string
  'x-name'?: string
  minItems?: number
  type?: string
  const?: Json
  enum?: Json[]
  anyOf?: Shape[]
  items?: Shape
  properties?: Record<string, Shape>
  patternProperties?: Record<string, Shape>
  required?: string[]
  minimum?: number
  maximum?: number
  pattern?: string
}

export type Names = {
  hosts: readonly string[]
  vms: readonly string[]
  stores: readonly string[]
  pools: readonly string[]
  volumes: readonly string[]
}

/** Not left to chance: addresses, texts of definitions, what needs another world around it. */
const LEFT_OUT = new Set([
  'xml',
  'uuid',
  'mac',
  'controlUri',
  'peerUri',
  'migrationUri',
  'hash',
  'unsafe',
  'tls',
  'url',
  'path',
  'file'
])

const WORDS: Readonly<Record<string, readonly Json[]>> = {
  memoryMiB: [64, 128, 256],
  maxMemoryMiB: [256, 512],
  sizeMiB: [8, 16, 32],
  vcpus: [1, 2],
  timeoutSeconds: [0, 1],
  target: ['vda', 'vdb', 'vdc'],
  bus: ['virtio'],
  disk: ['vda', 'vdb'],
  drive: ['sda'],
  snapshot: ['s1', 's2'],
  network: ['default'],
  format: ['qcow2', 'raw'],
  mac: ['52:54:00:00:00:01'],
  to: []
}

export function randomArgs(action: Action, names: Names, dice: Dice): JsonObject {
  return objectOf(action.args, names, dice)
}

function objectOf(shape: Shape, names: Names, dice: Dice): JsonObject {
  const made: JsonObject = {}
  for (const [key, property] of Object.entries(shape.properties ?? {})) {
    const required = shape.required?.includes(key) ?? false
    if (!required && (LEFT_OUT.has(key) || !dice.chance(0.35))) continue
    const value = valueOf(property, key, names, dice)
    if (value !== undefined) made[key] = value
  }
  return made
}

function valueOf(shape: Shape, key: string, names: Names, dice: Dice): Json | undefined {
  if (shape.const !== undefined) return shape.const
  if (shape.enum) return dice.pick(shape.enum)
  if (shape.anyOf) return valueOf(dice.pick(shape.anyOf) ?? shape, key, names, dice)
  const named = shape['x-ref'] ?? shape['x-name']
  if (named) return nameOf(named, key, names, dice)
  if (shape.pattern?.startsWith('^[0-9a-f]{8}-')) return '00000000-0000-4000-8000-00000000000a'
  if (shape.pattern?.startsWith('^(/')) return dice.pick(['/srv/one', '/srv/two'])
  const words = WORDS[key]
  if (words && words.length > 0) return dice.pick(words)
  switch (shape.type) {
    case 'boolean':
      return dice.chance(0.6)
    case 'integer':
    case 'number': {
      const least = shape.minimum ?? 0
      return least + dice.below(Math.min(4, (shape.maximum ?? least + 4) - least + 1))
    }
    case 'array':
      return Array.from({ length: dice.below(2) + (shape.minItems ? 1 : 0) }, () =>
        valueOf(shape.items ?? shape, key.replace(/s$/, ''), names, dice)
      ).filter((item) => item !== undefined)
    case 'object':
      return objectOf(shape, names, dice)
    default:
      return dice.pick(['one', 'two'])
  }
}

function nameOf(kind: string, key: string, names: Names, dice: Dice): Json | undefined {
  const from = {
    vm: names.vms,
    host: names.hosts,
    store: names.stores,
    pool: names.pools,
    volume: names.volumes,
    network: ['default', 'one']
  }[kind]
  if (from) {
    // A new VM's name may be one that nobody has.
    const name = dice.pick(
      kind === 'vm' && !key.startsWith('vm') ? [...from, 'web5'] : kind === 'pool' ? [...from, 'new'] : from
    )
    // A volume's reference says its store; a new volume's name does not.
    return kind === 'volume' && key !== 'name' && !key.endsWith('Name') ? `${dice.pick(names.stores)}/${name}` : name
  }
  return dice.pick(['one', 'two'])
}
