// `-l role=web`: names by labels, asked of the server, in place of names that are written out.
import { isAction, type CommandSpec, type OperandSpec, type OptionSpec } from './command.ts'
import type { Cli } from './context.ts'
import { usage } from './failure.ts'

export const labelOption: OptionSpec = {
  flags: '-l, --label <selector>',
  help: 'by labels in place of names: role=web,tier!=test,zone in (a,b)',
  kind: 'text'
}

const paths = { vm: '/vms', host: '/hosts' } as const

/** The operand of an action that may be given by labels: many VMs or hosts. */
export function selectable(command: CommandSpec): (OperandSpec & { names: 'vm' | 'host' }) | undefined {
  if (!isAction(command)) return undefined
  const last = command.operands?.at(-1)
  if (!last?.many || (last.names !== 'vm' && last.names !== 'host') || last.arg !== last.names) return undefined
  return { ...last, names: last.names }
}

/** What the selector picks, all of it: UUIDs of VMs, names of hosts. @throws CliError usage when it picks nothing */
export async function select(cli: Cli, names: 'vm' | 'host', selector: string): Promise<string[]> {
  const found: string[] = []
  let cursor: string | null = null
  do {
    const page: { items: { uuid: string; name: string }[]; next: string | null } = await cli
      .client()
      .get(paths[names], { labels: selector, limit: '1000', ...(cursor === null ? {} : { cursor }) })
    found.push(...page.items.map((item) => (names === 'vm' ? item.uuid : item.name)))
    cursor = page.next
  } while (cursor !== null)
  if (found.length === 0) throw usage(`no ${names} has labels ${selector}`, `see \`taskomatic ${names} list -l …\``)
  return found
}
