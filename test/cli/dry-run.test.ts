// What a dry run prints of the tasks that would be made: text, JSON, a graph.
import { afterEach, describe, expect, test } from 'vitest'
import { fakeServer, run, type Answer, type Asked } from './fake-server.ts'

let stop: (() => Promise<unknown>) | undefined
afterEach(async () => {
  await stop?.()
  stop = undefined
})

async function serve(answer: (asked: Asked) => Answer | Promise<Answer>) {
  const server = await fakeServer(answer)
  stop = server.stop
  return server
}

describe('--dry-run', () => {
  const task = (index: number, more: object) => ({
    index,
    key: null,
    action: 'vm.start',
    title: `Start web${index}`,
    irreversible: false,
    nothingToDo: null,
    claims: [],
    after: [],
    afterMore: 0,
    later: null,
    ...more
  })
  const before = (index: number, needs: string, ...because: object[]) => ({
    task: { index },
    needs,
    title: '',
    because
  })
  const preview = {
    tasks: [
      task(0, {
        action: 'vm.create',
        title: 'Create "web1"',
        claims: [{ resource: 'vm-name/web1', mode: 'exclusive' }]
      }),
      task(1, {
        after: [before(0, 'complete', { kind: 'asked' }, { kind: 'needs' }, { kind: 'claim', resource: 'vm/1' })],
        later: 'held: not yet'
      }),
      task(2, {
        action: 'vm.delete',
        title: 'Delete web1',
        irreversible: true,
        after: [
          before(1, 'ended', { kind: 'claim', resource: 'vm/1' }),
          { task: 41, needs: 'ended', title: 'Stop web1', because: [{ kind: 'claim', resource: 'vm/1' }] }
        ]
      }),
      task(3, { nothingToDo: 'it runs already', afterMore: 7 })
    ],
    waitsFor: [{ id: 41, action: 'vm.stop', title: 'Stop web1', state: 'running' }],
    overtakes: [{ id: 40, title: 'Reboot web1' }]
  }
  const dry = ['vm', 'create', 'web1', '--dry-run']

  test('prints a tree that says why each waits for which', async () => {
    const server = await serve(() => ({ body: preview }))
    expect((await run(dry, server)).out).toBe(
      [
        '1. Create "web1" (vm.create)',
        '└─ 2. Start web1 (vm.start)',
        '   │    takes its place later: held: not yet',
        '   │    after 1, which must be complete: asked for; possible only thanks to it; both claim vm/1',
        '   └─ 3. Delete web1 (vm.delete)  ! cannot be undone',
        '           after 2: both claim vm/1',
        '           after task 41 (running), Stop web1: both claim vm/1',
        '4. Start web3 (vm.start)',
        '     nothing to do: it runs already',
        '     after 7 more tasks',
        'Would be cancelled to make way: task 40, Reboot web1',
        '4 tasks; nothing was made: this was a dry run.',
        ''
      ].join('\n')
    )
    expect(server.asked[0]?.query).toEqual({ dryRun: 'true' })
  })

  test.each([
    [[...dry, '-o', 'json']],
    [[...dry, '--graph', 'json']],
    [['plan', 'submit', '-f', '-', '--dry-run', '-o', 'json']]
  ])('prints JSON: %j', async (words) => {
    const server = await serve(() => ({ body: preview }))
    expect(JSON.parse((await run(words, { ...server, stdin: 'tasks: []' })).out)).toEqual(preview)
  })

  test.each([
    [[...dry, '-o', 'dot']],
    [[...dry, '--graph', 'dot']],
    [['plan', 'submit', '-f', '-', '--dry-run', '-o', 'dot']]
  ])('prints a graph for Graphviz: %j', async (words) => {
    const server = await serve(() => ({ body: preview }))
    const dot = (await run(words, { ...server, stdin: 'tasks: []' })).out
    expect(dot).toContain('n0 [label="Create \\"web1\\""]')
    expect(dot).toContain('n0 -> n1 [label="asked for; possible only thanks to it; both claim vm/1"];')
    expect(dot).toContain('n2 [label="Delete web1", color=red];')
    expect(dot).toContain('t41 -> n2 [label="both claim vm/1", style=dashed];')
    expect(dot).toContain('t41 [label="task 41 (running): Stop web1", style=rounded];')
  })

  test('a chain of 10,000 does not run off to the right', async () => {
    const tasks = Array.from({ length: 10_000 }, (_, index) =>
      task(index, { after: index === 0 ? [] : [before(index - 1, 'ended', { kind: 'asked' })] })
    )
    const server = await serve(() => ({ body: { tasks, waitsFor: [], overtakes: [] } }))
    const lines = (await run(dry, server)).out.split('\n')
    expect(lines.filter((line) => /^ *(└─ )?\d+\. /.test(line))).toHaveLength(10_000)
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThan(120)
  })

  test('a graph of what is really made is refused', async () => {
    expect(await run(['vm', 'start', 'web1', '-o', 'dot'])).toMatchObject({ code: 2 })
    expect(await run(['plan', 'submit', '-f', '-', '--graph', 'text'], { stdin: 'tasks: []' })).toMatchObject({
      code: 2
    })
  })
})
