// The demo's script: what an operator does in a first hour, through the HTTP API and nothing else.
import type { Submitted } from '../api/submission.ts'
import type { PlanView, TaskPage, TaskView } from '../api/task.ts'
import type { Client } from '../cli/client.ts'

export type DemoHost = { name: string; uri: string }

/** Where the shared store appears on every simulated host, and its name. */
export const sharedStore = { name: 'nfs1', path: '/srv/nfs1', pool: 'data' } as const

const MEMORY_MIB = 512
/** What one VM takes of a host: its memory, 5 % and 256 MiB more. */
export const needMiB = Math.ceil(MEMORY_MIB * 1.05) + 256

/** The demo's own VMs are called so: others are a visitor's, and left alone. */
export const vmName = (index: number): string => `demo${index + 1}`
export const isDemoVm = (name: string): boolean => /^demo\d+$/.test(name)

type PlannedTask = { key?: string; action: string; args: Record<string, unknown>; after?: string[] }

/** Adds the hosts and makes one store of a pool on each. */
export async function prepareFleet(client: Client, hosts: readonly DemoHost[]): Promise<void> {
  await run(
    client,
    'add the hosts',
    hosts.map(({ name, uri }) => ({ action: 'host.add', args: { host: name, controlUri: uri, peerUri: uri } }))
  )
  const { name, path, pool } = sharedStore
  await run(
    client,
    'make pools',
    hosts.map((host) => ({ action: 'pool.create', args: { host: host.name, pool, target: path } }))
  )
  // One pool alone is no shared store.
  if (hosts.length > 1)
    await run(client, 'share the store', [
      { action: 'store.share', args: { store: name, pools: hosts.map((host) => ({ host: host.name, pool })) } }
    ])
}

/** Creates VMs, spread evenly over the hosts, and starts them: one plan, in which the queue finds the order. */
export async function startAll(
  client: Client,
  hosts: readonly DemoHost[],
  vms: number,
  signal?: AbortSignal
): Promise<void> {
  const names = Array.from({ length: vms }, (_, index) => vmName(index))
  const store = hosts.length > 1 ? sharedStore.name : `${hosts[0]?.name}/${sharedStore.pool}`
  await run(
    client,
    'make VMs and start them',
    [
      ...names.map((name, index) => ({
        action: 'vm.create',
        args: {
          name,
          memoryMiB: MEMORY_MIB,
          vcpus: 1,
          host: hosts[index % hosts.length]?.name,
          disks: [{ store, sizeMiB: 1024 }]
        }
      })),
      ...names.map((vm) => ({ action: 'vm.start', args: { vm } }))
    ],
    signal
  )
}

export type Cleared = {
  /** VMs that ran on the host when it was said to be clear. */
  runningOnClearedHost: number
  /** Queued starts that named the host and were given another one. */
  rewrittenStarts: number
}

/**
 * Asks that `moving` VMs are stopped and started again on a host, and clears that host while these starts wait: its VMs migrate
 * away, the starts go elsewhere. Then the host is restored, and what was there comes back.
 */
export async function clearAndRestore(
  client: Client,
  host: string,
  moving: readonly string[],
  running: (host: string) => number
): Promise<Cleared> {
  const asked = await submit(client, `move ${moving.length} VMs to ${host}`, [
    ...moving.map((vm) => ({ action: 'vm.stop', args: { vm } })),
    ...moving.map((vm) => ({ action: 'vm.start', args: { vm, host } }))
  ])
  const starts = asked.tasks.filter(({ action }) => action === 'vm.start').map(({ id }) => id)
  await run(client, `clear ${host}`, [{ action: 'host.clear', args: { host, vms: 'migrate', pools: 'leave' } }])
  const runningOnClearedHost = running(host)
  await ended(client, asked)
  const found = await Promise.all(starts.map((id) => client.get<TaskView>(`/tasks/${id}`)))
  const named = found.map(({ args }) => (args as { host?: string }).host)
  const rewrittenStarts = named.filter((other) => other !== undefined && other !== host).length
  await run(client, `restore ${host}`, [{ action: 'host.restore', args: { host } }])
  return { runningOnClearedHost, rewrittenStarts }
}

async function submit(client: Client, name: string, tasks: PlannedTask[], signal?: AbortSignal): Promise<Submitted> {
  return client.post<Submitted>('/plans', { name, onFailure: 'stop', tasks }, signal ? { signal } : {})
}

async function ended(client: Client, { plan }: Submitted, signal?: AbortSignal): Promise<void> {
  let view: PlanView
  do view = await client.get<PlanView>(`/plans/${plan}`, { wait: 25 }, signal ? { signal } : {})
  while (!view.ended)
}

/** Submits a plan and waits for its end; how its tasks ended is for taskCounts to say. */
async function run(client: Client, name: string, tasks: PlannedTask[], signal?: AbortSignal): Promise<void> {
  await ended(client, await submit(client, name, tasks, signal), signal)
}

/** How many tasks stand in which state, over all there are. */
export async function taskCounts(client: Client): Promise<Record<string, number>> {
  const counts: Record<string, number> = { complete: 0, failed: 0, cancelled: 0 }
  let cursor: string | undefined
  do {
    const page: TaskPage = await client.get('/tasks', { limit: 500, cursor })
    for (const { state } of page.items) counts[state] = (counts[state] ?? 0) + 1
    cursor = page.next ?? undefined
  } while (cursor !== undefined)
  return counts
}
