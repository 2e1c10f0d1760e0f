// Submitting, reading and steering tasks over HTTP, on a real queue in which nothing runs by itself.
import { get } from 'node:http'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { serve, smallFleet, token, type Served } from './serve.ts'

let api: Served
beforeEach(async () => {
  api = await serve()
  await smallFleet(api.fresh)
})
afterEach(() => api.stop())

const start = (vm = 'web1', more: object = {}) => ({ action: 'vm.start', args: { vm }, ...more })

async function submitted(body: object = start()): Promise<number> {
  const answer = await api.request('POST', '/tasks', body)
  expect(answer.status, JSON.stringify(answer.body)).toBe(201)
  return answer.body.tasks[0].id
}

describe('submitting', () => {
  test('a task is stored with who asked, why, and its claims', async () => {
    const id = await submitted(
      start('web1', { reason: 'it is Monday', priority: 5, notBefore: '2099-01-01T00:00:00Z' })
    )
    const { body } = await api.request('GET', `/tasks/${id}`)
    expect(body).toMatchObject({
      id, action: 'vm.start', title: 'Start web1', state: 'scheduled', by: 'admin', reason: 'it is Monday', priority: 5,
      notBefore: '2099-01-01T00:00:00.000Z', note: 'not before 2099-01-01T00:00:00.000Z', attempt: 0, error: null, plan: null
    }) // prettier-ignore
    expect(body.claims).toContainEqual({ resource: `vm/${body.args.vm}`, mode: 'exclusive' })
    expect(api.woken()).toBe(1)
  })

  test('the same Idempotency-Key answers as before and makes nothing new; another request under it is refused', async () => {
    const key = { 'idempotency-key': 'k-1' }
    const first = await api.request('POST', '/tasks', start(), key)
    const again = await api.request('POST', '/tasks', start(), key)
    expect([first.status, again.status]).toEqual([201, 200])
    expect(again.body).toMatchObject({ replayed: true, tasks: [{ id: first.body.tasks[0].id, title: 'Start web1' }] })
    const other = await api.request('POST', '/tasks', start('run1'), key)
    expect(other.body).toMatchObject({ status: 409, code: 'idempotency_mismatch' })
    expect((await api.request('GET', '/tasks')).body.items).toHaveLength(1)
  })

  test('many at once under one key make one task', async () => {
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => api.request('POST', '/tasks', start(), { 'idempotency-key': 'k' }))
    )
    expect(new Set(answers.map(({ body }) => body.tasks[0].id)).size).toBe(1)
    expect((await api.request('GET', '/tasks')).body.items).toHaveLength(1)
  })

  test('a plan orders its tasks: what it brings about is needed, what it names is waited for', async () => {
    const { body } = await api.request('POST', '/plans', {
      name: 'nightly',
      tasks: [
        { key: 'make', action: 'vm.create', args: { name: 'new1', memoryMiB: 512, host: 'h1' } },
        start('new1'),
        start('web1', { after: ['make'] })
      ]
    })
    const [make, first, second] = body.tasks.map(({ id }: { id: number }) => id)
    const after = async (id: number) => (await api.request('GET', `/tasks/${id}`)).body.after
    expect(await after(first)).toMatchObject([{ id: make, needs: 'complete', title: 'Create new1' }])
    expect(await after(second)).toMatchObject([{ id: make, needs: 'complete' }])
    const plan = (await api.request('GET', `/plans/${body.plan}`)).body
    expect(plan).toMatchObject({
      name: 'nightly',
      onFailure: 'stop',
      by: 'admin',
      ended: false,
      counts: { ready: 1, waiting: 2 }
    })
    expect((await api.request('GET', `/tasks?plan=${body.plan}`)).body.items).toHaveLength(3)
  })

  test('a dry run tells claims, prerequisites by title and what cannot be undone, and stores nothing', async () => {
    const stop = await submitted({ action: 'vm.stop', args: { vm: 'run1' } })
    const { status, body } = await api.request('POST', '/tasks?dryRun=true', {
      action: 'vm.delete',
      args: { vm: 'run1' }
    })
    expect(status).toBe(200)
    expect(body.tasks).toMatchObject([
      {
        action: 'vm.delete',
        irreversible: true,
        claims: expect.arrayContaining([expect.objectContaining({ mode: 'exclusive' })])
      }
    ])
    for (const edge of body.tasks[0].after) if (edge.task === stop) expect(edge.title).toBe('Stop run1')
    expect((await api.request('GET', '/tasks')).body.items).toHaveLength(1)
  })

  test('a plan of 10,000 tasks fits', { timeout: 60_000 }, async () => {
    const { database } = api.fresh
    await database.query(
      `insert into inventory.vm (uuid, name, home) select gen_random_uuid(), 'many' || n, 'h1' from generate_series(1, 10000) n`
    )
    await database.query(
      `insert into inventory.whereabouts (vm, host, state, since, power, reason, persistent, max_memory_mib, observed, observed_at, generation)
       select v.uuid, 'h1', 'defined', now(), 'off', '', true, 1024, w.observed || jsonb_build_object('uuid', v.uuid, 'name', v.name), now(), 1
       from inventory.vm v cross join (select observed from inventory.whereabouts limit 1) w where v.name like 'many%'`
    )
    const tasks = Array.from({ length: 10_000 }, (_, index) => start(`many${index + 1}`))
    const answer = await api.request('POST', '/plans', { tasks })
    expect(answer.status, JSON.stringify(answer.body).slice(0, 500)).toBe(201)
    expect(answer.body.tasks).toHaveLength(10_000)
    const more = await api.request('POST', '/plans', { tasks: [...tasks, start('web1')] })
    expect(more.body).toMatchObject({ status: 400, pointer: '/tasks' })
  })
})

describe('reading', () => {
  test('lists are paged, newest first, and filtered', async () => {
    const ids: number[] = []
    for (const vm of ['web1', 'twin@h1', 'twin@h2']) ids.push(await submitted(start(vm)))
    ids.push(await submitted({ action: 'vm.stop', args: { vm: 'run1' }, hold: { reason: 'not yet' } }))
    const list = async (query: string) => {
      const { status, body } = await api.request('GET', `/tasks?${query}`)
      expect(status, JSON.stringify(body)).toBe(200)
      return body.items.map(({ id }: { id: number }) => id)
    }
    const first = (await api.request('GET', '/tasks?limit=3')).body
    expect(first.items.map(({ id }: { id: number }) => id)).toEqual(ids.toReversed().slice(0, 3))
    expect(await list(`limit=3&cursor=${first.next}`)).toEqual([ids[0]])
    expect(await list('state=held')).toEqual([ids[3]])
    expect(await list('state=ended')).toEqual([])
    expect(await list('state=open,complete')).toHaveLength(4)
    expect(await list('action=vm.stop')).toEqual([ids[3]])
    expect(await list('vm=twin@h2')).toEqual([ids[2]])
    expect(await list('text=TWIN')).toEqual([ids[2], ids[1]])
    expect(await list(`id=${ids[0]},${ids[2]}`)).toEqual([ids[2], ids[0]])
    for (const bad of ['state=tired', 'limit=0', 'limit=1001', 'cursor=xyz', 'vm=twin', 'vm=web1&host=h1', 'nope=1']) {
      const { status, body } = await api.request('GET', `/tasks?${bad}`)
      expect([400, 409], `${bad}: ${JSON.stringify(body)}`).toContain(status)
    }
  })

  test('a task of a VM that is not there any more is found by the name', async () => {
    const id = await submitted({ action: 'vm.create', args: { name: 'new1', memoryMiB: 512, host: 'h1' } })
    expect((await api.request('GET', '/tasks?vm=new1')).body.items).toMatchObject([{ id }])
  })

  test.each([
    '/tasks/99999999',
    '/plans/99999999',
    '/tasks/99999999/why',
    '/tasks/99999999/log',
    '/vms/nope',
    '/hosts/nope'
  ])('%s is not found', async (path) => {
    const { status, body, type } = await api.request('GET', path)
    expect(status).toBe(404)
    expect(type).toMatch(/problem\+json/)
    expect(body.next).not.toBe('')
  })

  test('a number that is none is refused, whatever it tries', async () => {
    for (const id of ['0', '-1', '1e3', '1;drop table', '%00', '9'.repeat(30), '1.5']) {
      const { status } = await api.request('GET', `/tasks/${encodeURIComponent(id)}`)
      expect(status, id).toBe(400)
    }
  })

  test('the fleet is read with its candidates for slips', async () => {
    expect((await api.request('GET', '/hosts')).body.items).toMatchObject([
      { name: 'h1', connection: 'up' },
      { name: 'h2' }
    ])
    expect((await api.request('GET', '/vms?host=h2')).body.items).toMatchObject([{ name: 'twin', home: 'h2' }])
    expect((await api.request('GET', '/vms/web1')).body).toMatchObject({ name: 'web1', home: 'h1', power: 'off' })
    expect((await api.request('GET', '/vms/wbe1')).body).toMatchObject({ status: 404, candidates: ['web1'] })
    expect((await api.request('GET', '/vms/twin')).body).toMatchObject({
      status: 409,
      code: 'ambiguous',
      candidates: ['twin@h1', 'twin@h2']
    })
    expect((await api.request('GET', '/pools?host=h1')).body.items).toMatchObject([{ name: 'data', store: 'h1/data' }])
    expect((await api.request('GET', '/stores')).body.items).toMatchObject([{ name: 'h1/data' }, { name: 'h2/data' }])
    expect((await api.request('GET', '/volumes')).body.items).toEqual([])
    expect((await api.request('GET', '/actions')).body.items.map(({ name }: { name: string }) => name)).toContain(
      'vm.start'
    )
  })
})

describe('why', () => {
  test('of a waiting task names the task and the claim in its way', async () => {
    const first = await submitted({ action: 'vm.stop', args: { vm: 'run1' } })
    const second = await submitted({ action: 'vm.reboot', args: { vm: 'run1' } }).catch(() =>
      submitted({ action: 'vm.start', args: { vm: 'run1' } })
    )
    const { body } = await api.request('GET', `/tasks/${second}/why`)
    expect(body).toMatchObject({ id: second, state: 'waiting' })
    const claim = body.reasons.find(({ resource }: { resource?: string }) => resource?.startsWith('vm/'))
    expect(claim).toMatchObject({
      kind: 'claim',
      task: { id: first, title: 'Stop run1' },
      text: expect.stringMatching(new RegExp(`task ${first} .*VM run1 \\(vm/.*exclusive`)),
      ends: `the end of task ${first}`
    })
    expect(body.summary).toContain(`task ${first}`)
  })

  test('of a held task names who, why and the way out', async () => {
    const id = await submitted(start('web1', { hold: { reason: 'after lunch' } }))
    expect((await api.request('GET', `/tasks/${id}/why`)).body).toMatchObject({
      state: 'held',
      summary: expect.stringContaining('held by admin: after lunch'),
      reasons: [{ kind: 'held', ends: `\`taskomatic task release ${id}\`` }]
    })
  })
})

describe('steering', () => {
  test('a task is held, released, cancelled and tried again', async () => {
    const id = await submitted()
    const wish = async (verb: string, body?: object) => (await api.request('POST', `/tasks/${id}/${verb}`, body)).body
    expect(await wish('hold', { reason: 'wait for me' })).toMatchObject({ state: 'held', note: 'wait for me' })
    expect(await wish('hold', {})).toMatchObject({ status: 400, code: 'missing_field', pointer: '/reason' })
    expect(await wish('release')).toMatchObject({ state: 'ready' })
    expect(await wish('release')).toMatchObject({ status: 409, code: 'not_held' })
    expect(await wish('cancel', { reason: 'changed my mind' })).toMatchObject({ state: 'cancelled' })
    expect(await wish('cancel')).toMatchObject({ status: 409, code: 'already_ended' })
    expect(await wish('retry')).toMatchObject({ state: 'ready' })
    expect(await wish('retry', { withDependants: 'yes' })).toMatchObject({ status: 400, pointer: '/withDependants' })
    expect(await wish('retry')).toMatchObject({ status: 409, code: 'not_ended' })
  })

  test('what needs a cancelled task fails and names it; retry with dependants brings both back', async () => {
    const { body } = await api.request('POST', '/plans', {
      tasks: [{ action: 'vm.create', args: { name: 'new1', memoryMiB: 512, host: 'h1' } }, start('new1')]
    })
    const [make, run] = body.tasks.map(({ id }: { id: number }) => id)
    await api.request('POST', `/tasks/${make}/cancel`, {})
    const failed = (await api.request('GET', `/tasks/${run}?wait=5`)).body
    expect(failed).toMatchObject({ state: 'failed', error: { code: 'prerequisite_failed' } })
    expect(failed.note).toContain(String(make))
    await api.request('POST', `/tasks/${make}/retry`, { withDependants: true })
    expect((await api.request('GET', `/tasks/${run}`)).body.state).toBe('waiting')
  })
})

describe('waiting', () => {
  test('for a task is answered by its end, at once', async () => {
    const id = await submitted()
    const waiting = api.request('GET', `/tasks/${id}?wait=30`)
    const began = performance.now()
    await api.request('POST', `/tasks/${id}/cancel`, {})
    expect((await waiting).body.state).toBe('cancelled')
    expect(performance.now() - began).toBeLessThan(5000)
    expect((await api.request('GET', `/tasks/${id}?wait=30`)).body.state).toBe('cancelled')
  })

  test('for another state is answered by the next change', async () => {
    const id = await submitted()
    const waiting = api.request('GET', `/tasks/${id}?wait=30&not=ready`)
    await api.request('POST', `/tasks/${id}/hold`, { reason: 'r' })
    expect((await waiting).body.state).toBe('held')
  })

  test('for a plan is answered when its last task has ended', async () => {
    const { body } = await api.request('POST', '/plans', { tasks: [start('web1'), start('twin@h1')] })
    const waiting = api.request('GET', `/plans/${body.plan}?wait=30`)
    for (const { id } of body.tasks) await api.request('POST', `/tasks/${id}/cancel`, {})
    expect((await waiting).body).toMatchObject({ ended: true, counts: { cancelled: 2 } })
  })

  test('ends when the time is over, and when the server stops', async () => {
    const id = await submitted()
    expect((await api.request('GET', `/tasks/${id}?wait=1`)).body.state).toBe('ready')
    expect((await api.request('GET', `/tasks/${id}?wait=61`)).status).toBe(400)
  })
})

describe('events', () => {
  /** Reads a stream until `enough`; answers what came. */
  function stream(headers: Record<string, string>, enough: (text: string) => boolean): Promise<string> {
    return new Promise((resolve, reject) => {
      const request = get(
        `${api.url}/api/v1/events`,
        { headers: { authorization: `Bearer ${token}`, ...headers } },
        (response) => {
          expect(response.headers['content-type']).toBe('text/event-stream')
          expect(response.headers['cache-control']).toBe('no-store')
          let text = ''
          response.setEncoding('utf8').on('data', (chunk: string) => {
            text += chunk
            if (!enough(text)) return
            request.destroy()
            resolve(text)
          })
        }
      )
      request.once('error', reject)
    })
  }
  const eventsOf = (text: string) =>
    [...text.matchAll(/^id: (\d+)\nevent: tasks\ndata: (.*)$/gm)].map(([, id, data]) => ({
      id: Number(id),
      ...(JSON.parse(data ?? '{}') as { submitted: number[]; ended: number[] })
    }))

  test('are told as they happen, and from the last one seen', async () => {
    let heard = () => {}
    const listening = new Promise<void>((resolve) => (heard = resolve))
    const live = stream({}, (text) => {
      heard()
      return eventsOf(text).some(({ ended }) => ended.length > 0)
    })
    await listening
    const id = await submitted()
    await api.request('POST', `/tasks/${id}/cancel`, {})
    const events = eventsOf(await live)
    expect(events.flatMap(({ submitted: ids }) => ids)).toContain(id)
    expect(events.flatMap(({ ended }) => ended)).toContain(id)
    expect(events.map((event) => event.id)).toEqual(events.map((event) => event.id).toSorted((a, b) => a - b))

    const second = await submitted(start('run1', { hold: { reason: 'r' } }))
    const later = eventsOf(
      await stream({ 'last-event-id': String(events.at(-1)?.id) }, (text) => text.includes('event: tasks'))
    )
    expect(later.flatMap(({ submitted: ids }) => ids)).toEqual([second])
  })

  test('need a token, and end when the server stops', async () => {
    expect((await fetch(`${api.url}/api/v1/events`)).status).toBe(401)
    const answer = await fetch(`${api.url}/api/v1/events`, { headers: { authorization: `Bearer ${token}` } })
    const text = answer.text()
    const id = await submitted()
    const poll = api.request('GET', `/tasks/${id}?wait=60`)
    // Sent after it and answered: so it has arrived.
    for (let round = 0; round < 3; round++) await api.request('GET', `/tasks/${id}/why`)
    const stopping = api.stop()
    expect(await text).toMatch(/^: what happens/)
    expect((await poll).body.state).toBe('ready')
    await stopping
  })
})
