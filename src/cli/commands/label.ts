// vm label, host label: labels are ours, no host knows of them.
import { labelRule, parseLabel, SelectorError } from '../../model/selector.ts'
import type { ActionCommand, Given, OperandSpec, OptionSpec } from '../command.ts'
import { usage } from '../failure.ts'

const options: readonly OptionSpec[] = [
  { flags: '--set <key=value>', help: 'may be repeated', kind: 'text', arg: 'set', many: true },
  { flags: '--remove <key>', help: 'take it away; may be repeated', kind: 'text', arg: 'remove', many: true }
]

function finish(args: Record<string, unknown>, { options: given }: Given): Record<string, unknown> {
  const set = Object.fromEntries(((given['set'] as string[] | undefined) ?? []).map(label))
  const remove = (given['remove'] as string[] | undefined) ?? []
  if (Object.keys(set).length + remove.length === 0)
    throw usage('no label is given', 'add --set key=value or --remove key')
  return { ...args, set, remove }
}

function label(text: string): [string, string] {
  try {
    return parseLabel(text)
  } catch (error) {
    if (error instanceof SelectorError) throw usage(error.message, `each of ${labelRule}`)
    throw error
  }
}

export const labelCommand = (noun: string, operand: OperandSpec): ActionCommand => ({
  verb: 'label',
  summary: 'Set and remove labels',
  action: `${noun}.label`,
  operands: [operand],
  options,
  finish,
  more:
    `Example: taskomatic ${noun} label NAME --set role=web --remove tier` +
    (noun === 'vm' ? '\nVMs with the same label anti-affinity=GROUP are never active on one host.' : '')
})

/** `role=web, tier=test` */
export const labelsText = (labels: Readonly<Record<string, string>> | undefined): string | undefined =>
  Object.entries(labels ?? {})
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}=${value}`)
    .join(', ') || undefined
