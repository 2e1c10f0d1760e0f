// `npm run prove -- NAME`: the full form of a proof whose short form is among the tests. Without a name it lists them.
// A proof is a command that prints its figure and exits 0 only if it holds; the figure goes into docs with its date.

import { spawnSync } from 'node:child_process'

type Proof = {
  what: string
  command: string[]
  /** Set beside what is set already, which goes first: `TASKOMATIC_RUNS=500 npm run prove -- complex-order`. */
  env?: Record<string, string>
  /** About how long it takes on two cores. */
  minutes: number
}

const test = (file: string): string[] => ['vitest', 'run', '--project', 'database', file]

const proofs: Readonly<Record<string, Proof>> = {
  'complex-order': {
    what: '5,000 random mixes of complex tasks, judged from the tables after every step',
    command: test('test/queue/complex-order.test.ts'),
    env: { TASKOMATIC_RUNS: '5000' },
    minutes: 60
  },
  clear: {
    what: '200 VMs leave one host, 2 s each and 4 at once: within 1.05 of 100 s, and 1.05 of that beside 1,000,000 waiting tasks',
    command: test('test/actions/host-clear-makespan.test.ts'),
    env: {
      TASKOMATIC_CLEAR_VMS: '200',
      TASKOMATIC_CLEAR_MS: '2000',
      TASKOMATIC_CLEAR_WAITING: '1000000',
      TASKOMATIC_CLEAR_ALLOWED_MS: '0',
      TASKOMATIC_CLEAR_BURDEN_FACTOR: '1.05'
    },
    minutes: 10
  },
  scheduler: {
    what: '10,000 simulated lives of the scheduler, clock, order and faults by dice, every invariant looked at after every step',
    command: ['vitest', 'run', '--project', 'unit', 'test/model-queue/scheduler.test.ts'],
    env: { TASKOMATIC_LIVES: '10000' },
    minutes: 1
  },
  soak: {
    what: 'a steady mixed load for 10 minutes (TASKOMATIC_SOAK_SECONDS=86400 for a day): 0 stuck, no table over twice its live size',
    command: test('test/faults/soak.test.ts'),
    env: { TASKOMATIC_SOAK_SECONDS: '600' },
    minutes: 11
  },
  'scheduler-alike': {
    what: '500 seeds: the model of the scheduler and the real queue answer alike and stand alike after each of 60 operations',
    command: test('test/faults/scheduler-conformance.test.ts'),
    env: { TASKOMATIC_SEEDS: '500' },
    minutes: 5
  },
  takeover: {
    what: 'kill -9 of one of 3 dispatchers, 10 times: its tasks run or are looked for elsewhere within the lease and 2 s, never before',
    command: [...test('test/faults/dispatchers.test.ts'), '-t', 'kill -9'],
    env: { TASKOMATIC_DISPATCHERS_KILLS: '10', TASKOMATIC_DISPATCHERS_LEASE_MS: '10000' },
    minutes: 6
  },
  stopped: {
    what: 'SIGSTOP of a dispatcher for three leases, 20 times: every late report is refused',
    command: [...test('test/faults/dispatchers.test.ts'), '-t', 'SIGSTOP'],
    env: { TASKOMATIC_DISPATCHERS_STOPS: '20', TASKOMATIC_DISPATCHERS_LEASE_MS: '2000' },
    minutes: 5
  },
  cancel: {
    what: '200 running migrations are cancelled from another process: the abort reaches the host within 1 s (p99)',
    command: [...test('test/faults/dispatchers.test.ts'), '-t', 'cancelled'],
    env: { TASKOMATIC_DISPATCHERS_CANCELS: '200' },
    minutes: 4
  },
  'order-crowd': {
    what: '60 crowds of clients and dispatchers at once on few resources, by fresh seeds',
    command: test('test/queue/order-property.test.ts'),
    env: { TASKOMATIC_CROWDS: '60' },
    minutes: 10
  },
  'fleet-start': {
    what: '10,000 VMs started on 500 hosts: none over-committed, at most 2 ms of our CPU a task, within 1.3 of what latency dictates',
    command: ['node', 'bench/fleet.ts', '--check'],
    minutes: 15
  },
  'predicted-state': {
    what: '200 rounds of random requests for every action, predictions held against what is observed',
    command: test('test/actions/predicted.test.ts'),
    env: { TASKOMATIC_ROUNDS: '200' },
    minutes: 8
  },
  kill: {
    what: '500 kills -9 of one of three dispatchers at the default lease, 200 mixed tasks each: nothing lost, early, done twice or falsely complete',
    command: test('test/faults/kill.test.ts'),
    env: { TASKOMATIC_KILL_RUNS: '500', TASKOMATIC_KILL_TASKS: '200', TASKOMATIC_KILL_LEASE_MS: '10000' },
    minutes: 150
  },
  postmaster: {
    what: 'PostgreSQL is killed 20 times under load: engines recover unaided, nothing lost or done twice',
    command: test('test/faults/postmaster.test.ts'),
    env: { TASKOMATIC_POSTMASTER_KILLS: '20' },
    minutes: 10
  },
  'every-action': {
    what: 'every action, with each of its calls refused, lost before and lost after its effect: truthful ends, clean slates',
    command: test('test/actions/every-action.test.ts'),
    env: { TASKOMATIC_EVERY_WAY: '1' },
    minutes: 10
  },
  'fault-matrix': {
    what: 'real faults in the middle of migrations between real hosts, also those that fail now and then on a busy machine',
    command: ['vitest', 'run', '--project', 'system', 'test/system/fault-matrix.test.ts'],
    env: { TASKOMATIC_FAULT_MATRIX: 'all' },
    minutes: 3
  },
  'event-cut': {
    what: "a host's events are cut for 10 s while virsh changes 50 VMs; right again within 1 s",
    command: test('test/dispatcher/watch-cut.test.ts'),
    env: { TASKOMATIC_CUT_SECONDS: '10' },
    minutes: 1
  }
}

const [name, ...more] = process.argv.slice(2)
if (name === undefined) {
  const names = Object.keys(proofs)
  if (names.length === 0) console.log('no proofs yet')
  for (const each of names) console.log(`${each.padEnd(20)} ${proofs[each]!.what} (${proofs[each]!.minutes} min)`)
} else {
  const proof = proofs[name]
  if (proof) {
    const [command = '', ...args] = proof.command
    const { status, error } = spawnSync(command, [...args, ...more], {
      stdio: 'inherit',
      env: { ...proof.env, ...process.env }
    })
    if (error) console.error(error.message)
    process.exitCode = status ?? 1
  } else {
    console.error(`no proof ${name}: npm run prove lists them`)
    process.exitCode = 2
  }
}
