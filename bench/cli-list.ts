// `taskomatic task list` against 100,000 tasks, the whole command from its start to its end: `node bench/cli-list.ts [TASKS]`.
// Prints medians as one line of JSON; exits 1 above the limit.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'

const LIMIT_MS = 500
const tasks = Number(process.argv[2] ?? 100_000)
const runs = 11
const root = join(import.meta.dirname, '..')
const state = mkdtempSync(join(tmpdir(), 'taskomatic-bench-'))
// A process of its own: this one is blocked while a command runs.
const server = spawn(join(root, 'bin', 'taskomatic'), ['server', '--port', '0', '--state', state, '--drain', '1s'], {
  stdio: ['ignore', 'ignore', 'pipe']
})
const ended = once(server, 'exit')
for await (const chunk of server.stderr) if (String(chunk).includes('server listens')) break
server.stderr.resume()

try {
  await fill(tasks)
  const commands = {
    list: ['task', 'list'],
    held: ['task', 'list', '--state', 'held'],
    failed: ['task', 'list', '--state', 'failed'],
    text: ['task', 'list', '--text', 'web99']
  }
  const medians: Record<string, number> = {}
  for (const [name, words] of Object.entries(commands)) {
    const taken: number[] = []
    run(words)
    for (let round = 0; round < runs; round++) {
      const began = performance.now()
      run(words)
      taken.push(performance.now() - began)
    }
    medians[`${name}Ms`] = Math.round(taken.toSorted((a, b) => a - b)[Math.floor(runs / 2)] ?? 0)
  }
  console.log(JSON.stringify({ tasks, runs, ...medians, limitMs: LIMIT_MS }))
  if ((medians['listMs'] ?? 0) > LIMIT_MS) process.exitCode = 1
} finally {
  server.kill('SIGTERM')
  await ended
  rmSync(state, { recursive: true, force: true })
}

function run(words: string[]): void {
  const { status, stderr } = spawnSync(join(root, 'bin', 'taskomatic'), words, {
    env: { ...process.env, TASKOMATIC_STATE: state }
  })
  if (status !== 0) throw new Error(`taskomatic ${words.join(' ')}: status ${status}: ${stderr.toString()}`)
}

/** Half of them have ended, a tenth of these badly; half are held. Written as the owner: the queue is not measured. */
async function fill(count: number): Promise<void> {
  const socket = encodeURIComponent(join(state, 'postgres'))
  const client = new pg.Client({ connectionString: `postgresql://postgres@localhost/taskomatic?host=${socket}` })
  await client.connect()
  try {
    await client.query(
      `with made as (
         insert into queue.task (id, action, title, args, claims, effects, priority, binds, created_by, created_at, outcome, error, attempts, started_at, ended_at)
         select nextval('queue.position'), 'vm.start', 'Start web' || n, '{}', jsonb_build_array(jsonb_build_object('resource', 'vm/' || n, 'mode', 'exclusive')),
           '[]', 0, true, 'bench', now(),
           case when n % 2 = 1 then null when n % 20 = 0 then 'failed' else 'complete' end::queue.state,
           case when n % 20 = 0 then '{"code":"x","message":"no disk"}'::jsonb end,
           case when n % 2 = 1 then 0 else 1 end, case when n % 2 = 0 then now() end, case when n % 2 = 0 then now() end
         from generate_series(1, $1::integer) n returning id, outcome
       ), waiting as (
         insert into queue.wait (task, unmet, barred, priority) select id, 0, 1, 0 from made where outcome is null returning task
       )
       insert into queue.held (task, reason, held_by, since) select task, 'bench', 'bench', now() from waiting`,
      [count]
    )
    await client.query('analyze')
  } finally {
    await client.end()
  }
}
