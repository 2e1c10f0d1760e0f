// What a group of procedures is: handlers by name, typed by the wire tables.

import type { ArgsOf, ReplyOf } from '../libvirt/payload.ts'
import type { ProcedureName } from '../libvirt/wire.gen.ts'
import type { Session } from './session.ts'
import type { SimHost } from './host.ts'

/** The call that is being answered: who asked, its serial, which a stream's messages carry, and whether it shall stop halfway. */
export type CallContext = { session: Session; serial: number; halfway: boolean }

/** `host` is the session's. What a handler throws as Refusal becomes the call's error. */
export type Handler<Name extends ProcedureName> = (
  args: ArgsOf<Name>,
  host: SimHost,
  call: CallContext
) => ReplyOf<Name> | Promise<ReplyOf<Name>>

export type Handlers = { [Name in ProcedureName]?: Handler<Name> }

/** libvirt's lists answer with the items only when asked for them, and always with their number. */
export const listed = <T>(items: T[], needResults: number): { items: T[]; ret: number } => ({
  items: needResults === 0 ? [] : items,
  ret: items.length
})

/** Whether something with these properties passes a list's filter: in each group that names anything, one must hold. */
export function passes(flags: number, groups: readonly (readonly [flag: number, holds: boolean])[][]): boolean {
  return groups.every((group) => {
    const named = group.filter(([flag]) => (flags & flag) !== 0)
    return named.length === 0 || named.some(([, holds]) => holds)
  })
}
