// What goes on by itself in a demo that stays up: chosen by a seed, and never at a visitor's cost.
import { describe, expect, test } from 'vitest'
import { createClient } from '../../src/cli/client.ts'
import { live, nextStep, type Sight, type Step } from '../../src/demo/life.ts'
import { seeded } from '../../src/sim/faults.ts'
import { fakeServer, type Asked } from '../cli/fake-server.ts'

const hosts = ['h1', 'h2', 'h3', 'h4']
const sight: Sight = {
  hosts: hosts.map((name) => ({ name, connection: 'up', cordoned: false })),
  vms: [
    ...Array.from({ length: 20 }, (_, index) => {
      const off = index === 0
      return { name: `demo${index + 1}`, power: off ? 'off' : 'running', activeOn: off ? null : hosts[index % 4]! }
    }),
    { name: 'web1', power: 'running', activeOn: 'h1' },
    { name: 'mine', power: 'off', activeOn: null }
  ]
}

function steps(seed: number, count: number, seen: Sight = sight): Step[] {
  const random = seeded(seed)
  return Array.from({ length: count }, () => nextStep(random, seen, ['h1', 'h2']))
}

describe('what happens next', () => {
  test('follows from the seed', () => {
    expect(steps(7, 50)).toEqual(steps(7, 50))
    expect(steps(7, 50)).not.toEqual(steps(8, 50))
  })

  test('is of every kind, and touches no VM but the demo’s own', () => {
    const taken = steps(1, 2000)
    expect(new Set(taken.map((step) => step.do))).toEqual(new Set(['start', 'stop', 'migrate', 'clear']))
    const touched = taken.flatMap((step) => ('vm' in step ? [step.vm] : []))
    expect(touched).not.toContain('web1')
    expect(touched).not.toContain('mine')
  })

  test('clears no host that a visitor was told to use, and moves no VM to where it is', () => {
    const taken = steps(2, 2000)
    const cleared = taken.flatMap((step) => (step.do === 'clear' ? [step.host] : []))
    expect(new Set(cleared)).toEqual(new Set(['h3', 'h4']))
    for (const step of taken)
      if (step.do === 'migrate') expect(sight.vms.find(({ name }) => name === step.vm)?.activeOn).not.toBe(step.to)
  })

  test('moves nothing to a host that is closed or down', () => {
    const closed = sight.hosts.map((host) => ({
      ...host,
      cordoned: host.name === 'h3',
      connection: host.name === 'h4' ? ('down' as const) : host.connection
    }))
    const targets = steps(3, 2000, { ...sight, hosts: closed }).flatMap((step) => ('to' in step ? [step.to] : []))
    expect(new Set(targets)).toEqual(new Set(['h1', 'h2']))
  })

  test('is nothing where there is nothing', () => {
    expect(new Set(steps(4, 100, { hosts: [], vms: [] }).map((step) => step.do))).toEqual(new Set(['nothing']))
  })

  test('keeps most VMs running', () => {
    const half = sight.vms.map((vm, index) => ({ ...vm, power: index % 2 ? 'running' : 'off' }))
    expect(steps(5, 500, { ...sight, vms: half }).some((step) => step.do === 'stop')).toBe(false)
  })
})

describe('life', () => {
  /** Lives with these numbers against a server that refuses as asked, until `enough` was submitted. */
  async function lived(numbers: number[], enough: number, refuse = false): Promise<unknown[]> {
    const end = new AbortController()
    const submitted: unknown[] = []
    const states = ['running', 'complete']
    const server = await fakeServer(({ method, path, body }: Asked) => {
      if (path === '/vms') return { body: { items: sight.vms } }
      if (path === '/hosts') return { body: { items: sight.hosts } }
      if (method === 'POST') {
        const { action, args } = body as { action: string; args: unknown }
        if (submitted.push({ action, args }) === enough) end.abort()
        if (refuse) return { status: 409, body: { code: 'not_possible', detail: 'somebody came first' } }
        return { status: 201, body: { plan: null, replayed: false, tasks: [{ id: 7, key: null, action, title: '' }] } }
      }
      return { body: { id: 7, state: states.shift() ?? 'complete' } }
    })
    let at = 0
    const random = (): number => numbers[at++ % numbers.length] ?? 0
    try {
      const client = createClient({ url: server.url, token: 'tkm_test' })
      await live(client, { random, kept: ['h1', 'h2'], pauseMs: 1, clearedMs: 1, signal: end.signal })
    } finally {
      await server.stop()
    }
    return submitted
  }

  test('restores a host once it has been cleared', async () => {
    expect(await lived([0.01], 2)).toEqual([
      { action: 'host.clear', args: { host: 'h3', vms: 'migrate' } },
      { action: 'host.restore', args: { host: 'h3' } }
    ])
  })

  test('goes on when it is refused, and ends when it is told to', async () => {
    const taken = await lived([0.5, 0.9, 0.3, 0.6], 3, true)
    expect(taken).toHaveLength(3)
  })
})
