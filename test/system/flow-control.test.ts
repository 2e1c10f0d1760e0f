// libvirtd as it comes: 5 unanswered calls on a connection, 20 workers for everybody. Guests whose QEMU stands still swallow the
// calls to them; the whole engine runs on top, and what it owes to the other guests and hosts is measured. Then the daemon
// itself stands still: the connections are given up, and nobody knows what became of the calls until the hosts are asked.

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startServer, type RunningServer } from '../../bin/start-server.ts'
import { lostAnswer } from '../../src/actions/attempt.ts'
import { registry } from '../../src/actions/registry.ts'
import { createSubmitter, type Submitter } from '../../src/actions/submit.ts'
import type { JsonObject } from '../../src/db/json.ts'
import { loadFacts } from '../../src/inventory/load.ts'
import { resource } from '../../src/model/resource.ts'
import { getTask } from '../../src/queue/read.ts'
import { isEnded } from '../../src/queue/state.ts'
import type { Task, TaskError } from '../../src/queue/task.ts'
import { describeWith } from '../harness/parts.ts'
import { eventually } from './eventually.ts'
import { bootImage, guestXml } from './guest.ts'
import { startHosts, type Hosts } from './hosts.ts'

const frozen = ['frozen1', 'frozen2', 'frozen3', 'frozen4', 'frozen5']

describeWith('real hosts', 'a host whose guests stand still', () => {
  let hosts: Hosts
  let state: string
  let server: RunningServer
  let submitter: Submitter
  beforeAll(async () => {
    state = await mkdtemp(join(tmpdir(), 'tk-server-'))
    const log = pino({ level: process.env['TASKOMATIC_TEST_LOG'] ?? 'silent' }, pino.destination(2))
    const connections = { keepalive: { intervalMs: 1000, count: 3 }, firstRetryMs: 200, lastRetryMs: 500 }
    ;[hosts, server] = await Promise.all([
      startHosts({ count: 2, limits: 'stock' }),
      startServer({ stateDirectory: state, port: 0, connections, log })
    ])
    submitter = createSubmitter({ database: server.database, registry })
    for (const { name, uri } of hosts.all) await done('host.add', { host: name, controlUri: uri })
    await Promise.all([...[...frozen, 'free'].map((name) => runs('h1', name)), runs('h2', 'other')])
  }, 120_000)
  afterAll(async () => {
    await server?.stop()
    await hosts?.stop()
    await rm(state, { recursive: true, force: true })
  }, 90_000)

  async function runs(host: string, name: string): Promise<void> {
    const disk = join(hosts.shared, `${name}.img`)
    await writeFile(disk, bootImage())
    await hosts.define(host, guestXml({ name, disk, memoryMiB: 32 }))
    await hosts.virsh(host, 'start', name)
    await seenAs(host, name, 'running')
  }

  async function submit(action: string, args: JsonObject): Promise<number> {
    const { tasks } = await submitter.submit({ tasks: [{ action, args }], by: 'test' })
    server.engine.dispatcher.wake()
    return tasks[0]!.id
  }
  const look = async (id: number): Promise<Task> => (await getTask(server.database, id))!
  const until = (id: number, timeoutMs?: number): Promise<Task> =>
    eventually(async () => {
      const task = await look(id)
      if (!isEnded(task.state)) throw new Error(`${task.title} is ${task.state}: ${JSON.stringify(task.error)}`)
      return task
    }, timeoutMs)
  async function done(action: string, args: JsonObject, timeoutMs?: number): Promise<Task> {
    const task = await until(await submit(action, args), timeoutMs)
    expect(task, JSON.stringify(task.error)).toMatchObject({ state: 'complete' })
    return task
  }
  async function stepOf(id: number): Promise<string | undefined> {
    const [last] = await server.database.query<{ message: string }>(
      'select message from queue.log where task = $1 order by id desc limit 1',
      [id]
    )
    return last?.message
  }
  /** The errors that ended its attempts so far, and its own. */
  async function errorsOf(id: number): Promise<(TaskError | null)[]> {
    const tries = await server.database.query<{ error: TaskError | null }>(
      'select error from queue.attempt where task = $1 order by attempt',
      [id]
    )
    return [...tries.map(({ error }) => error), (await look(id)).error]
  }
  const msOf = ({ createdAt, endedAt }: Task): number => endedAt!.getTime() - createdAt.getTime()

  const uuidOf = async (host: string, name: string): Promise<string> => hosts.virsh(host, 'domuuid', name)
  async function seenAs(host: string, name: string, power: string): Promise<void> {
    const subject = resource.vm((await uuidOf(host, name)).trim())
    await eventually(async () => {
      const facts = await loadFacts(server.database, [subject])
      expect(facts.get(subject)).toMatchObject({ power, activeOn: host })
    })
  }

  /** Pauses and resumes a guest through the queue, several times: how long each task took from its submission to its end. */
  async function toAndFro(name: string, rounds: number): Promise<number[]> {
    const tookMs: number[] = []
    for (let round = 0; round < rounds; round++) {
      tookMs.push(msOf(await done('vm.pause', { vm: name })), msOf(await done('vm.resume', { vm: name })))
    }
    return tookMs.toSorted((a, b) => a - b)
  }
  const median = (sorted: readonly number[]): number => sorted[Math.floor(sorted.length / 2)]!
  const told = (sorted: readonly number[]): string => `median ${median(sorted)} ms, longest ${sorted.at(-1)} ms`

  let hung: number[] = []

  test('five hung calls delay neither another host nor another guest of theirs', async () => {
    const before = await toAndFro('other', 10)
    for (const name of frozen) await hosts.signalGuest('h1', name, 'STOP')
    hung = await Promise.all(frozen.map((name) => submit('vm.pause', { vm: name })))
    for (const id of hung) await eventually(async () => expect(await stepOf(id)).toBe('pause'))

    const elsewhere = await toAndFro('other', 10)
    const beside = await toAndFro('free', 5)
    console.log(`a pause or resume on the other host: ${told(before)}; beside five hung calls: ${told(elsewhere)}`)
    console.log(`of the guest beside the frozen ones: ${told(beside)}`)
    expect(median(elsewhere)).toBeLessThan(2 * median(before) + 50)
    expect(elsewhere.at(-1)).toBeLessThan(2000)
    expect(beside.at(-1)).toBeLessThan(2000)
    for (const id of hung) expect(await look(id)).toMatchObject({ state: 'running', attempts: 1 })
  }, 60_000)

  test('events of the other guests still come, and the host can be listed', async () => {
    const begun = performance.now()
    await hosts.virsh('h1', 'suspend', 'free')
    await seenAs('h1', 'free', 'paused')
    await hosts.virsh('h1', 'resume', 'free')
    await seenAs('h1', 'free', 'running')
    const tookMs = performance.now() - begun
    const listMs = msOf(await done('host.refresh', { host: 'h1' }))
    console.log(`two changes by virsh and their events: ${Math.round(tookMs)} ms; a list of the host: ${listMs} ms`)
    expect(tookMs).toBeLessThan(3000)
    expect(listMs).toBeLessThan(2000)
  })

  test('a lost connection leaves the outcome unknown, and the hosts tell it in the end', async () => {
    await hosts.signalLibvirtd('h1', 'STOP')
    try {
      await eventually(async () => expect(server.engine.watchers.isUp('h1')).toBe(false))
      // The other host goes on meanwhile.
      expect(msOf(await done('vm.pause', { vm: 'other' }))).toBeLessThan(2000)
      // Each connection is given up at its own time; one that the daemon answers again in time lives on.
      for (const id of hung) await eventually(async () => expect(await stepOf(id)).toContain(lostAnswer))
    } finally {
      await hosts.signalLibvirtd('h1', 'CONT')
    }
    await eventually(async () => expect(server.engine.watchers.isUp('h1')).toBe(true), 30_000)
    // Looked for while the guests still stand: they run, so it has not happened yet, and whoever asked is told that nobody knew.
    const unknown = expect.objectContaining({ code: 'host_unknown_outcome', step: 'pause' }) as unknown
    for (const id of hung) await eventually(async () => expect(await errorsOf(id)).toContainEqual(unknown), 40_000)
    for (const name of frozen) expect(await hosts.virsh('h1', 'domstate', name)).toBe('running')
    for (const id of hung) expect(isEnded((await look(id)).state)).toBe(false)

    for (const name of frozen) await hosts.signalGuest('h1', name, 'CONT')
    for (const [index, id] of hung.entries()) {
      const task = await until(id, 60_000)
      expect(task, JSON.stringify(task.error)).toMatchObject({ state: 'complete' })
      expect(await hosts.virsh('h1', 'domstate', '--reason', frozen[index]!)).toBe('paused (user)')
    }
    expect(server.engine.dispatcher.guardPollFound()).toBe(0)
  }, 180_000)
})
