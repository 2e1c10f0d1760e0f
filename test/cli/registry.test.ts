// The command's tables and the actions agree: every action can be asked for, and every option is an argument that it has.
import { expect, test } from 'vitest'
import { registry } from '../../src/actions/registry.ts'
import { isAction, type ActionCommand } from '../../src/cli/command.ts'
import { nouns } from '../../src/cli/nouns.ts'

const specs = await Promise.all(Object.values(nouns).map(({ load }) => load()))
const commands = specs.flatMap(({ noun, commands: all }) => all.filter(isAction).map((command) => ({ noun, command })))

// Arguments that a command makes of others.
const made: Record<string, readonly string[]> = {
  'vm.create': ['firmware', 'graphics'],
  'vm.set': ['vm', 'vcpus', 'maxVcpus', 'memoryMiB', 'maxMemoryMiB', 'autostart', 'order', 'delaySeconds'],
  'pool.create': ['host', 'source'],
  'pool.start': ['host'],
  'pool.stop': ['host'],
  'pool.refresh': ['host'],
  'pool.delete': ['host'],
  'network.create': ['host', 'dhcp', 'dhcpRange'],
  'network.start': ['host'],
  'network.stop': ['host'],
  'network.delete': ['host'],
  'volume.clone': ['store', 'name'],
  'volume.create': ['store', 'name'],
  'store.share': ['pools']
}
const takenApart: Record<string, readonly string[]> = { 'volume.create': ['volume'] }
/** For programs: what the command has no words for. */
const withoutWords: Record<string, readonly string[]> = {
  'vm.create': ['uuid'],
  'vm.clone': ['uuid', 'macs'],
  'vm.delete': ['onlyVolumes'],
  'pool.create': ['autostart'],
  'network.create': ['autostart'],
  'vm.disk.remove': ['volume'],
  'vm.disk.resize': ['volume'],
  'vm.disk.move': ['volume']
}

const argsOf = (command: ActionCommand): string[] => {
  const named = [...(command.operands ?? []), ...(command.options ?? [])].flatMap(({ arg }) =>
    arg === undefined ? [] : [arg]
  )
  return [
    ...named.filter((arg) => !takenApart[command.action]?.includes(arg)),
    ...(made[command.action] ?? []),
    ...Object.keys(command.fixed ?? {})
  ]
}

test('every action has a command', () => {
  const own = specs.flatMap(({ commands: all }) => all.flatMap((each) => (isAction(each) ? [] : (each.submits ?? []))))
  const asked = new Set([...commands.map(({ command }) => command.action), ...own])
  expect([...registry.keys()].filter((name) => !asked.has(name))).toEqual([])
})

test.each(commands.map(({ noun, command }) => [`${noun} ${command.verb}`, command] as const))(
  '`%s` asks for an action with arguments that it has',
  (_, command) => {
    const action = registry.get(command.action)
    expect(action, `there is no action ${command.action}`).toBeDefined()
    const known = Object.keys(action!.args.properties)
    expect(argsOf(command).filter((arg) => !known.includes(arg))).toEqual([])
    const without = withoutWords[command.action] ?? []
    expect(known.filter((arg) => !argsOf(command).includes(arg) && !without.includes(arg))).toEqual([])
  }
)

test('what is asked about first cannot be undone', () => {
  for (const { command } of commands) {
    if (command.irreversible === true) expect(registry.get(command.action)?.irreversible, command.action).toBe(true)
  }
})

test('the first page of help names the first word of every verb, and no two commands share a word', () => {
  for (const { noun, commands: all } of specs) {
    const shown = nouns[noun]?.verbs.split(' ') ?? []
    const firstWords = new Set(all.flatMap(({ verb }) => verb.split(' ')[0] ?? []))
    firstWords.delete('destroy')
    expect([...firstWords].toSorted()).toEqual(shown.toSorted())
    const words = all.flatMap(({ verb, aliases }) => [verb, ...(aliases ?? [])])
    expect(new Set(words).size).toBe(words.length)
  }
})
