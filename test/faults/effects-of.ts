// What each kind of task is to leave in the journal of effects, in words of its own, and what a journal's entries say in the same words.
// Only the kinds that the fault harness asks for are here: others have no effect that is judged.
import type { HistoryTask } from './history.ts'

/** An entry of the simulators' journal. */
export type Entry = {
  seq: number
  host: string
  kind: string
  name: string
  detail?: string
  overCommitted?: true
  twoWriters?: true
}

/** What a task does to one thing; `back`: what takes it back, where one that ended badly may have done so. */
export type Expected = { subject: string; effects: string[]; back?: string }

/** UUIDs to names, as the tasks that created VMs say. */
export function namesOf(tasks: Iterable<HistoryTask>): Map<string, string> {
  const names = new Map<string, string>()
  for (const { action, args } of tasks)
    if (action === 'vm.create' && typeof args['uuid'] === 'string') names.set(args['uuid'], text(args['name']))
  return names
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '')
const diskOf = (vm: string): string => `volume ${vm}.qcow2`
const volumeNamed = (reference: unknown): string => `volume ${text(reference).split('/').at(-1)}`

export function expectedOf({ action, args }: HistoryTask, names: ReadonlyMap<string, string>): Expected[] {
  const name = text(args['vm'])
  const vm = names.get(name) ?? name
  const toVm = (...effects: string[]): Expected[] => [{ subject: `vm ${vm}`, effects }]
  const toPool = (...effects: string[]): Expected[] => [
    { subject: `pool ${text(args['host'])}/${text(args['pool'])}`, effects }
  ]
  switch (action) {
    case 'vm.create': {
      const made = text(args['name'])
      const disk = { subject: diskOf(made), effects: ['created'], back: 'deleted' }
      return [
        { subject: `vm ${made}`, effects: ['defined'], back: 'undefined' },
        ...(Array.isArray(args['disks']) ? [disk] : [])
      ]
    }
    case 'vm.start':
      return toVm('started')
    case 'vm.stop':
      return toVm('stopped')
    case 'vm.save':
      return toVm('saved')
    case 'vm.pause':
      return toVm('paused')
    case 'vm.resume':
      return toVm('resumed')
    case 'vm.migrate':
      return toVm(`migrated to ${text(args['to'])}`)
    case 'vm.snapshot.create':
      return toVm(`snapshot created ${text(args['name'])}`)
    case 'vm.snapshot.delete':
      return toVm(`snapshot deleted ${text(args['snapshot'])}`)
    case 'vm.delete':
      return [
        ...toVm('undefined'),
        ...(args['volumes'] === true ? [{ subject: diskOf(vm), effects: ['deleted'] }] : [])
      ]
    case 'volume.create':
    case 'volume.clone':
      return [{ subject: `volume ${text(args['name'])}`, effects: ['created'], back: 'deleted' }]
    case 'volume.resize':
      return [
        { subject: volumeNamed(args['volume']), effects: [`resized to ${Number(args['sizeMiB']) * 1024 * 1024}`] }
      ]
    case 'volume.delete':
      return [{ subject: volumeNamed(args['volume']), effects: ['deleted'] }]
    case 'pool.create':
      return toPool('defined', 'started')
    case 'pool.start':
      return toPool('started')
    case 'pool.stop':
      return toPool('stopped')
    case 'pool.delete':
      return toPool('stopped', 'undefined')
    default:
      return []
  }
}

export type Happened = { subject: string; effect: string; entry: Entry }

/** `power lost` is nobody's effect: after it a VM is off without a task. */
export const powerLost = 'power lost'

/** What happened to things that tasks change. What is part of something else, as a migration's arrival is, is left out. */
export function happeningsIn(journal: readonly Entry[]): Happened[] {
  const moves = new Moves()
  return journal.flatMap((entry) => {
    const effect = effectOf(entry, moves)
    if (effect === undefined) return []
    const { kind, host, name } = entry
    const subject = kind.startsWith('volume')
      ? `volume ${name}`
      : kind.startsWith('pool')
        ? `pool ${host}/${name}`
        : `vm ${name}`
    return [{ subject, effect, entry }]
  })
}

/** Migrations under way: on the target a VM is defined and perhaps ended again, on the source it is undefined at the end. */
class Moves {
  readonly arriving = new Set<string>()
  readonly leaving = new Set<string>()
}

function effectOf(entry: Entry, moves: Moves): string | undefined {
  const { kind, host, name, detail = '' } = entry
  const here = `${name} ${host}`
  switch (kind) {
    case 'defined':
      return detail === 'added' && !moves.arriving.has(here) ? 'defined' : undefined
    case 'undefined':
      return moves.leaving.delete(here) ? undefined : 'undefined'
    case 'started':
      if (detail.startsWith('arriving from ')) moves.arriving.add(here)
      return detail === '' || detail === 'restored' ? 'started' : undefined
    case 'migrated':
      moves.arriving.delete(here)
      moves.leaving.delete(here)
      moves.leaving.add(`${name} ${detail.replace('from ', '')}`)
      return `migrated to ${host}`
    case 'stopped':
      if (detail === powerLost) return powerLost
      if (moves.arriving.delete(here)) return undefined
      return detail === 'migrated' || detail === 'saved' ? undefined : 'stopped'
    case 'saved':
      return 'saved'
    case 'paused':
      return detail === 'user' ? 'paused' : undefined
    case 'running':
      return detail === 'resumed' ? 'resumed' : undefined
    case 'snapshot':
      return detail.startsWith('created ') || detail.startsWith('deleted ') ? `snapshot ${detail}` : undefined
    case 'volume_created':
      return 'created'
    case 'volume_deleted':
      return 'deleted'
    case 'volume_resized':
      return `resized to ${detail}`
    case 'pool_defined':
    case 'pool_started':
    case 'pool_stopped':
    case 'pool_undefined':
      return kind.slice('pool_'.length)
    default:
      return undefined
  }
}
