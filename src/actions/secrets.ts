// Arguments that are nobody's to read: marked `x-secret` in their action's schema, and hidden wherever arguments are shown.
import type { TSchema } from 'typebox'
import type { Json, JsonObject } from '../db/json.ts'
import type { Action } from './action.ts'

const hidden = '(hidden)'

type Annotated = TSchema & { 'x-secret'?: true; properties?: Record<string, TSchema>; items?: TSchema }

/** Arguments as they may be shown. Those of an action that nobody knows here are all hidden. */
export function shownArgs(action: Action | undefined, args: JsonObject): JsonObject {
  if (!action) return Object.fromEntries(Object.keys(args).map((key) => [key, hidden]))
  return walk(action.args, args) as JsonObject
}

function walk(schema: Annotated | undefined, value: Json): Json {
  if (schema?.['x-secret']) return hidden
  if (Array.isArray(value)) return value.map((item) => walk(schema?.items, item))
  if (value === null || typeof value !== 'object' || !schema?.properties) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, walk(schema.properties?.[key], item)]))
}
