// The demo's script: what an operator does in a first hour, through the HTTP API and nothing else.
import type { Submitted } from '../api/submission.ts'
import type { PlanView, TaskPage } from '../api/task.ts'
import type { Client } from '../cli/client.ts'

export type DemoHost = { name: string; uri: string }

/** Where the shared store appears on every simulated host, and its name. */
export const sharedStore = { name: 'nfs1', path: '/srv/nfs1', pool: 'data' } as const

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
  await run(client, 'share the store', [
    { action: 'store.share', args: { store: name, pools: hosts.map((host) => ({ host: host.name, pool })) } }
  ])
}

/** Creates VMs, starts, migrates, stops and deletes them, everything submitted at once: the queue finds the order. */
export async function runScenario(client: Client, hosts: readonly DemoHost[], vms = 4): Promise<void> {
  const names = Array.from({ length: vms }, (_, index) => `demo${index + 1}`)
  const hostAt = (index: number): string => hosts[index % hosts.length]?.name ?? ''
  const disks = [{ store: sharedStore.name, sizeMiB: 1024 }]
  await run(client, 'a life of four VMs', [
    ...names.map((name, index) => ({
      action: 'vm.create',
      args: { name, memoryMiB: 512, vcpus: 1, host: hostAt(index), disks }
    })),
    ...names.map((vm) => ({ action: 'vm.start', args: { vm } })),
    ...names.map((vm, index) => ({ action: 'vm.migrate', args: { vm, to: hostAt(index + 1) } })),
    ...names.map((vm) => ({ action: 'vm.stop', args: { vm } })),
    ...names.map((vm) => ({ action: 'vm.delete', args: { vm, volumes: true } }))
  ])
}

/** Submits a plan and waits for its end; how its tasks ended is for taskCounts to say. */
async function run(client: Client, name: string, tasks: PlannedTask[]): Promise<void> {
  const { plan } = await client.post<Submitted>('/plans', { name, onFailure: 'stop', tasks })
  let view: PlanView
  do view = await client.get<PlanView>(`/plans/${plan}`, { wait: 25 })
  while (!view.ended)
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
