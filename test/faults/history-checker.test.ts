// The judge of runs can find: into a history that is right, one fault of each kind is planted, and it is named.
import { expect, test } from 'vitest'
import { judgeEffects } from './effects.ts'
import type { Now } from './effects-end.ts'
import type { Entry } from './effects-of.ts'
import { nothingFound, type Findings } from './history-checker.ts'
import { judgeHistory, type History, type HistoryTask } from './history.ts'

const uuid = '00000000-0000-4000-8000-000000000001'

/** web1 is created, started, moved to h2 and stopped; a volume beside it is made and made larger. */
class Recorded {
  readonly history: History = { tasks: new Map(), edges: [], ends: new Map() }
  journal: Entry[] = []
  now: Now = {
    vms: [{ host: 'h2', name: 'web1', active: false, persistent: true }],
    files: [
      { path: '/srv/nfs1/web1.qcow2', partial: false },
      { path: '/srv/nfs1/data.img', partial: false }
    ],
    pools: []
  }
  submitted = [1, 2, 3, 4, 5, 6]

  constructor() {
    this.#task(1, 'vm.create', { name: 'web1', uuid, host: 'h1', disks: [{ store: 'nfs1', sizeMiB: 64 }] })
    this.#task(2, 'vm.start', { vm: uuid })
    this.#task(3, 'vm.migrate', { vm: uuid, to: 'h2' })
    this.#task(4, 'vm.stop', { vm: uuid })
    this.#task(5, 'volume.create', { store: 'nfs1', name: 'data.img', sizeMiB: 16 }, 'volume/nfs1/data.img')
    this.#task(6, 'volume.resize', { volume: 'nfs1/data.img', sizeMiB: 32 }, 'volume/nfs1/data.img')
    this.happened('h1', 'volume_created', 'web1.qcow2')
    this.happened('h1', 'defined', 'web1', 'added')
    this.happened('h1', 'started', 'web1')
    this.happened('h2', 'started', 'web1', 'arriving from h1')
    this.happened('h2', 'defined', 'web1', 'added')
    this.happened('h2', 'migrated', 'web1', 'from h1')
    this.happened('h1', 'undefined', 'web1')
    this.happened('h1', 'stopped', 'web1', 'migrated')
    this.happened('h2', 'stopped', 'web1', 'shutdown')
    this.happened('h1', 'volume_created', 'data.img')
    this.happened('h1', 'volume_resized', 'data.img', String(32 * 1024 * 1024))
  }

  #task(id: number, action: string, args: Record<string, unknown>, resource = `vm/${uuid}`): void {
    const before = [...this.history.tasks.values()].findLast(({ claims }) => claims[0]?.resource === resource)
    if (before) this.history.edges.push({ task: id, prerequisite: before.id, needs: 'complete', derived: true })
    this.history.ends.set(id, 1)
    this.history.tasks.set(id, {
      id,
      action,
      args,
      claims: [{ resource, mode: 'exclusive' }],
      parent: null,
      outcome: 'complete',
      result: {},
      error: null,
      attempts: 1,
      startedAt: id * 10,
      endedAt: id * 10 + 9,
      earlier: [],
      uncertain: false,
      hasEvidence: false
    })
  }

  task(id: number): HistoryTask {
    const task = this.history.tasks.get(id)
    if (!task) throw new Error(`there is no task ${id}`)
    return task
  }

  happened(host: string, kind: string, name: string, detail?: string): void {
    this.journal.push({ seq: this.journal.length + 1, host, kind, name, ...(detail === undefined ? {} : { detail }) })
  }

  /** Takes an entry out. */
  without(kind: string, host: string): void {
    this.journal = this.journal.filter((entry) => entry.kind !== kind || entry.host !== host)
  }

  judged(): Findings {
    return {
      ...judgeHistory(this.history, this.submitted),
      ...judgeEffects([...this.history.tasks.values()], this.journal, this.now)
    }
  }
}

/** What a task that is not there any more would look like: open, and nobody's. */
const open = { outcome: null, endedAt: null, startedAt: null } as const

test('nothing is found in a history that is right', () => {
  expect(new Recorded().judged()).toEqual(nothingFound)
})

test.each<[string, keyof Findings, RegExp, (run: Recorded) => void]>([
  ['a task that was acknowledged and is not there', 'lost', /task 7 .* not there/, (run) => run.submitted.push(7)],
  ['a task that never ended', 'lost', /task 4 .* has not ended/, (run) => Object.assign(run.task(4), open)],
  [
    'an uncertain task without evidence',
    'lost',
    /task 4 .* without evidence/,
    (run) => Object.assign(run.task(4), open, { uncertain: true })
  ],
  [
    'a start before the end of its prerequisite, by less than a millisecond',
    'early',
    /task 2 began 0\.\d+ ms before task 1/,
    (run) => (run.task(2).startedAt = 18.75)
  ],
  [
    'a first attempt before the end of its prerequisite',
    'early',
    /task 4 began .* before task 3/,
    (run) => run.task(4).earlier.push({ attempt: 1, startedAt: 38, endedAt: 39, outcome: 'lost' })
  ],
  [
    'a start after what failed',
    'early',
    /task 6 began although task 5 was failed/,
    (run) => (run.task(5).outcome = 'failed')
  ],
  ['a result recorded twice', 'results', /task 2 .* ended 2 times/, (run) => run.history.ends.set(2, 2)],
  ['a result recorded by no end', 'results', /task 2 .* ended 0 times/, (run) => run.history.ends.delete(2)],
  [
    'two tasks that hold one thing',
    'together',
    /tasks 3 and 4 held vm\//,
    (run) => {
      run.history.edges.length = 0
      run.task(3).endedAt = 45
    }
  ],
  ['a start that happened twice', 'double', /started 2 times/, (run) => run.happened('h2', 'started', 'web1')],
  [
    'a VM that was created twice',
    'double',
    /defined 2 times/,
    (run) => run.journal.unshift({ seq: 0, host: 'h1', kind: 'defined', name: 'web1', detail: 'added' })
  ],
  [
    'a migration that happened twice',
    'double',
    /migrated to h2 2 times/,
    (run) => run.happened('h2', 'migrated', 'web1', 'from h1')
  ],
  [
    'a volume that was resized twice',
    'double',
    /resized to \d+ 2 times/,
    (run) => run.happened('h1', 'volume_resized', 'data.img', String(32 * 1024 * 1024))
  ],
  [
    'an effect of a task that was never begun',
    'double',
    /stopped 1 times, 0 at most/,
    (run) => Object.assign(run.task(4), { outcome: 'cancelled', attempts: 0, startedAt: null })
  ],
  [
    'a stop that is complete and did not happen',
    'falseCompletions',
    /stopped 0 times/,
    (run) => run.without('stopped', 'h2')
  ],
  [
    'a migration that is complete and did not happen',
    'falseCompletions',
    /migrated to h2 0 times/,
    (run) => run.without('migrated', 'h2')
  ],
  [
    'a VM that runs after its stop',
    'falseCompletions',
    /vm web1 runs against/,
    (run) => Object.assign(run.now.vms[0] ?? {}, { active: true })
  ],
  [
    'a VM that runs on two hosts',
    'falseCompletions',
    /vm web1 runs on h2 and h1/,
    (run) => {
      Object.assign(run.now.vms[0] ?? {}, { active: true })
      run.now.vms.push({ host: 'h1', name: 'web1', active: true, persistent: false })
    }
  ],
  [
    'a definition that a migration left behind',
    'falseCompletions',
    /vm web1 is on h2 and h1/,
    (run) => run.now.vms.push({ host: 'h1', name: 'web1', active: false, persistent: true })
  ],
  ['a volume that is gone', 'falseCompletions', /data\.img is not there/, (run) => void run.now.files.pop()],
  [
    'a volume that is half a copy',
    'falseCompletions',
    /data\.img is half a copy/,
    (run) => Object.assign(run.now.files[1] ?? {}, { partial: true })
  ],
  [
    'effects in another order than the tasks',
    'disorder',
    /vm web1/,
    (run) => {
      run.without('stopped', 'h2')
      run.journal.splice(2, 0, { seq: 0, host: 'h1', kind: 'stopped', name: 'web1', detail: 'shutdown' })
    }
  ],
  [
    'two writers on one disk',
    'twoWriters',
    /web1 on h2/,
    (run) => run.journal.push({ seq: 99, host: 'h2', kind: 'running', name: 'web1', twoWriters: true })
  ],
  [
    'more memory than a host has',
    'overCommitted',
    /web1 on h1/,
    (run) => run.journal.push({ seq: 99, host: 'h1', kind: 'resized', name: 'web1', overCommitted: true })
  ]
])('%s is found', (_, kind, words, plant) => {
  const run = new Recorded()
  plant(run)
  expect(run.judged()[kind].join('\n')).toMatch(words)
})

test('what failed may have happened or not', () => {
  const run = new Recorded()
  Object.assign(run.task(6), { outcome: 'failed', error: { code: 'refused' } })
  expect(run.judged()).toEqual(nothingFound)
  run.without('volume_resized', 'h1')
  expect(run.judged()).toEqual(nothingFound)
  run.happened('h1', 'volume_deleted', 'data.img')
  // Nobody's deletion: it is not the failed one's to take back what another had made.
  expect(run.judged().disorder).not.toEqual([])
})

test('a VM that its host lost with its power needs no stop', () => {
  const run = new Recorded()
  run.without('stopped', 'h2')
  run.happened('h2', 'stopped', 'web1', 'power lost')
  expect(run.judged().falseCompletions).not.toEqual([])
  run.task(4).result = { nothingToDo: 'web1 is off already' }
  expect(run.judged()).toEqual(nothingFound)
})
