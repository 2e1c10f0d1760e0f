// limit: how much of something goes on at one time.
import type { LimitView } from '../../api/limit.ts'
import type { NounSpec, OperandSpec } from '../command.ts'
import type { View } from '../render.ts'
import { printFrom } from './reading.ts'

const key: OperandSpec = {
  name: 'key',
  help: 'migrations-out/HOST, migrations-in/HOST, starts/HOST, storage/STORE; KIND/* for all',
  kind: 'text',
  arg: 'key'
}

const limitView: View<LimitView> = {
  name: (limit) => limit.key,
  columns: [
    { title: 'KEY', value: (limit) => limit.key },
    { title: 'CAP', value: (limit) => limit.cap ?? 'none', align: 'right' },
    { title: 'USED', value: (limit) => limit.used, align: 'right' },
    {
      title: 'WAITING',
      value: (limit) => limit.queued,
      align: 'right',
      tone: (limit) => (limit.queued > 0 ? 'busy' : undefined)
    },
    { title: 'SET', value: (limit) => (limit.own ? 'here' : 'for its kind'), wide: true }
  ]
}

export const limit: NounSpec = {
  noun: 'limit',
  summary: 'How much goes on at one time',
  commands: [
    { verb: 'list', aliases: ['ls'], summary: 'List limits', run: (cli) => printFrom(cli, '/limits', {}, limitView) },
    {
      verb: 'set',
      summary: 'Set a limit',
      action: 'limit.set',
      operands: [key, { name: 'cap', help: 'most at one time', kind: 'count', arg: 'cap' }],
      more: 'Example: taskomatic limit set migrations-out/h1 4'
    },
    {
      verb: 'unset',
      summary: 'Take a limit away: the key then has that of its kind',
      action: 'limit.set',
      operands: [key],
      fixed: { cap: null }
    }
  ]
}
