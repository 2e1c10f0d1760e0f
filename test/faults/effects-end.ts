// What there is on the hosts at the end, held against what the last tasks say that there is.
import { powerLost } from './effects-of.ts'
import type { Done, Story } from './effects.ts'

/** What the hosts have. */
export type Now = {
  vms: { host: string; name: string; active: boolean; persistent: boolean }[]
  files: { path: string; partial: boolean }[]
  pools: { host: string; name: string; active: boolean }[]
}

/** Differences, one a line. Where a task did not end well, or power was lost, only what must hold in any case is looked at. */
export function judgeEnd({ subject, tasks, happened }: Story, now: Now): string[] {
  const known =
    tasks.every(({ task }) => task.outcome === 'complete') && happened.every(({ effect }) => effect !== powerLost)
  const [kind, name = ''] = subject.split(' ')
  if (kind === 'vm') return judgeVm(name, known ? tasks : null, now)
  if (!known) return []
  if (kind === 'volume') return judgeVolume(name, tasks, now)
  const [host = '', pool = ''] = name.split('/')
  return judgePool(host, pool, tasks, now)
}

function judgeVm(name: string, tasks: readonly Done[] | null, now: Now): string[] {
  const there = now.vms.filter((vm) => vm.name === name)
  const active = there.filter((vm) => vm.active).map(({ host }) => host)
  if (active.length > 1) return [`vm ${name} runs on ${active.join(' and ')}`]
  if (!tasks) return []
  const wanted = { home: '', active: false }
  for (const { task } of tasks) {
    if (task.action === 'vm.create') wanted.home = text(task.args['host'])
    else if (task.action === 'vm.migrate') wanted.home = text(task.args['to'])
    else if (task.action === 'vm.delete') wanted.home = ''
    else if (task.action === 'vm.start') wanted.active = true
    else if (task.action === 'vm.stop' || task.action === 'vm.save') wanted.active = false
  }
  const homes = there.filter(({ persistent }) => persistent).map(({ host }) => host)
  const found: string[] = []
  if (homes.join() !== wanted.home)
    found.push(`vm ${name} is on ${homes.join(' and ') || 'no host'}, by its tasks on ${wanted.home || 'no host'}`)
  if (wanted.home !== '' && active.length > 0 !== wanted.active)
    found.push(`vm ${name} ${wanted.active ? 'does not run' : 'runs'} against what its tasks say`)
  return found
}

function judgeVolume(name: string, tasks: readonly Done[], now: Now): string[] {
  const there = now.files.filter(({ path }) => path.endsWith(`/${name}`))
  const wanted = tasks.at(-1)?.expected.effects.at(-1) !== 'deleted'
  if (there.some(({ partial }) => partial)) return [`volume ${name} is half a copy`]
  if (there.length > 0 === wanted) return []
  return [`volume ${name} is ${wanted ? 'not there' : 'there'} against what its tasks say`]
}

function judgePool(host: string, pool: string, tasks: readonly Done[], now: Now): string[] {
  const there = now.pools.find((one) => one.host === host && one.name === pool)
  const last = tasks.at(-1)?.task.action
  const wanted = last === 'pool.delete' ? 'gone' : last === 'pool.stop' ? 'stopped' : 'active'
  const is = there ? (there.active ? 'active' : 'stopped') : 'gone'
  return is === wanted ? [] : [`pool ${pool} on ${host} is ${is}, by its tasks ${wanted}`]
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '')
