// The one union of the protocol: a typed parameter's value. `hyper`s are bigint, as everywhere.

import { TypedParamType } from './constants.gen.ts'
import { type Codec, XdrError } from './xdr.ts'

export type TypedParamValue =
  | {
      readonly type: typeof TypedParamType.INT | typeof TypedParamType.UINT | typeof TypedParamType.DOUBLE
      value: number
    }
  | { readonly type: typeof TypedParamType.LLONG | typeof TypedParamType.ULLONG; value: bigint }
  | { readonly type: typeof TypedParamType.BOOLEAN; value: boolean }
  | { readonly type: typeof TypedParamType.STRING; value: string }

export const typedParamValue: Codec<TypedParamValue> = {
  write(writer, param) {
    writer.int(param.type)
    switch (param.type) {
      case TypedParamType.INT:
        return writer.int(param.value)
      case TypedParamType.UINT:
        return writer.uint(param.value)
      case TypedParamType.LLONG:
        return writer.hyper(param.value)
      case TypedParamType.ULLONG:
        return writer.uhyper(param.value)
      case TypedParamType.DOUBLE:
        return writer.double(param.value)
      case TypedParamType.BOOLEAN:
        return writer.int(param.value ? 1 : 0)
      case TypedParamType.STRING:
        return writer.string(param.value)
      default:
        throw unknownType((param as { type: number }).type)
    }
  },
  read(reader) {
    const type = reader.int()
    switch (type) {
      case TypedParamType.INT:
        return { type, value: reader.int() }
      case TypedParamType.UINT:
        return { type, value: reader.uint() }
      case TypedParamType.LLONG:
        return { type, value: reader.hyper() }
      case TypedParamType.ULLONG:
        return { type, value: reader.uhyper() }
      case TypedParamType.DOUBLE:
        return { type, value: reader.double() }
      case TypedParamType.BOOLEAN:
        return { type, value: reader.int() !== 0 }
      case TypedParamType.STRING:
        return { type, value: reader.string() }
      default:
        throw unknownType(type)
    }
  }
}

function unknownType(type: number): XdrError {
  return new XdrError('bad_value', `${type} is not a typed parameter's type`)
}
