// What changes labels is given, and checked for.
import { Type, type Static } from 'typebox'
import { labelKeyPattern, labelRule, labelValuePattern, mostLabels } from '../model/selector.ts'
import { impossible, nothingToDo, possible, type Verdict } from './action.ts'

const Key = Type.String({ pattern: labelKeyPattern, 'x-rule': labelRule, minLength: 1, maxLength: 63 })

export const labelArgs = {
  set: Type.Optional(
    Type.Record(Key, Type.String({ pattern: labelValuePattern, 'x-rule': labelRule, minLength: 1, maxLength: 63 }), {
      description: 'Labels to set: key → value',
      maxProperties: mostLabels
    })
  ),
  remove: Type.Optional(Type.Array(Key, { description: 'Keys of labels to remove', maxItems: mostLabels }))
}

const whole = Type.Object(labelArgs)
export type LabelChange = Static<typeof whole>

/** The labels afterwards. */
export function changed(labels: Readonly<Record<string, string>>, { set = {}, remove = [] }: LabelChange) {
  const kept = Object.entries(labels).filter(([key]) => !remove.includes(key))
  return { ...Object.fromEntries(kept), ...set }
}

export function checkLabels(of: string, labels: Readonly<Record<string, string>>, change: LabelChange): Verdict {
  const after = changed(labels, change)
  const count = Object.keys(after).length
  if (count > mostLabels)
    return impossible('too_many_labels', `${of} would have ${count} labels: ${mostLabels} are the most`, 'remove some')
  const same = (one: Record<string, string>, other: Record<string, string>) =>
    Object.entries(one).every(([key, value]) => other[key] === value)
  return same(after, labels) && same(labels, after) ? nothingToDo(`the labels of ${of} are so already`) : possible
}

/** What was there before, put back. */
export function putBack(labels: Readonly<Record<string, string>>, { set = {}, remove = [] }: LabelChange): LabelChange {
  const before = [...Object.keys(set), ...remove].flatMap((key) => {
    const value = labels[key]
    return value === undefined ? [] : [[key, value] as const]
  })
  return { set: Object.fromEntries(before), remove: Object.keys(set).filter((key) => labels[key] === undefined) }
}
