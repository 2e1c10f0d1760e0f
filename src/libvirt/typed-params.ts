// Typed parameters as plain objects. libvirt is strict about a parameter's type, so a value says which it is: a string is STRING, a boolean
// BOOLEAN, a whole number INT, another number DOUBLE, a bigint ULLONG (LLONG below zero); `typed` says it outright for the rest.

import { TypedParamType } from './constants.gen.ts'
import type { TypedParamValue } from './typed-param-value.ts'
import type { TypedParam } from './wire.gen.ts'

export type ParamValue = string | number | bigint | boolean
/** A list is a parameter given several times, e.g. `migrate_disks`. */
export type ParamObject = Readonly<
  Record<string, ParamValue | TypedParamValue | readonly (ParamValue | TypedParamValue)[] | undefined>
>

/** Values whose type their JavaScript form does not tell. */
export const typed = {
  uint: (value: number): TypedParamValue => ({ type: TypedParamType.UINT, value }),
  llong: (value: bigint): TypedParamValue => ({ type: TypedParamType.LLONG, value }),
  double: (value: number): TypedParamValue => ({ type: TypedParamType.DOUBLE, value })
}

/** Typed parameters of an object's properties; what is undefined is left out. */
export function toTypedParams(object: ParamObject): TypedParam[] {
  return Object.entries(object).flatMap(([field, given]) => {
    if (given === undefined) return []
    const values: readonly (ParamValue | TypedParamValue)[] = isList(given) ? given : [given]
    return values.map((value) => ({ field, value: toTypedValue(value) }))
  })
}

/** The parameters' values by name, on an object without prototype; one that came several times is a list. */
export function fromTypedParams(params: readonly TypedParam[]): Record<string, ParamValue | ParamValue[]> {
  const object = Object.create(null) as Record<string, ParamValue | ParamValue[]>
  for (const { field, value } of params) {
    const before = object[field]
    if (before === undefined) object[field] = value.value
    else if (Array.isArray(before)) before.push(value.value)
    else object[field] = [before, value.value]
  }
  return object
}

function toTypedValue(value: ParamValue | TypedParamValue): TypedParamValue {
  switch (typeof value) {
    case 'string':
      return { type: TypedParamType.STRING, value }
    case 'boolean':
      return { type: TypedParamType.BOOLEAN, value }
    case 'bigint':
      return { type: value < 0n ? TypedParamType.LLONG : TypedParamType.ULLONG, value }
    case 'number':
      return { type: Number.isInteger(value) ? TypedParamType.INT : TypedParamType.DOUBLE, value }
    default:
      return value
  }
}

function isList(given: ParamObject[string]): given is readonly (ParamValue | TypedParamValue)[] {
  return Array.isArray(given)
}
