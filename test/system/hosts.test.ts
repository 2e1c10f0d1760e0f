// The hosts that all system tests stand on: they migrate, lose power, links and daemons, and leave nothing behind.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { describeWith } from '../harness/parts.ts'
import { run } from './command.ts'
import { bootImage, prepareGuest } from './guest.ts'
import { startHosts, type Hosts } from './hosts.ts'
import { eventually } from './eventually.ts'

test('a boot image ends its first sector with the mark of a boot sector', () => {
  for (const image of [bootImage(), bootImage({ dirtyMiB: 48 })]) {
    expect(image.length).toBe(1024 * 1024)
    expect(image.readUInt16LE(510)).toBe(0xaa55)
  }
})

describeWith('real hosts', 'three hosts', () => {
  let hosts: Hosts

  beforeAll(async () => {
    hosts = await startHosts()
  })
  afterAll(async () => {
    await hosts?.stop()
    expect(existsSync(hosts.directory)).toBe(false)
  })

  const state = (host: string, guest: string): Promise<string> => hosts.virsh(host, 'domstate', guest, '--reason')
  const names = async (host: string): Promise<string[]> =>
    (await hosts.virsh(host, 'list', '--all', '--name')).split('\n').filter(Boolean)

  /** Defines and starts a guest on h1; returns its serial port's file. */
  async function startGuest(name: string, kind: 'idle' | { dirtyMiB: number } = 'idle'): Promise<string> {
    const serialFile = join(hosts.shared, `${name}.serial`)
    const xml = await prepareGuest({ name, kind, disk: join(hosts.shared, `${name}.raw`), serialFile })
    await hosts.define('h1', xml)
    await hosts.virsh('h1', 'start', name)
    await eventually(async () => expect(await run('cat', [serialFile])).toContain('B'))
    return serialFile
  }

  function migrate(guest: string, from: string, to: string, ...more: string[]): Promise<string> {
    const flags = ['--live', '--p2p', '--persistent', '--undefinesource', '--unsafe', ...more]
    return hosts.virsh(from, 'migrate', ...flags, guest, hosts.host(to).tlsUri)
  }

  test('each has the identity, the name and the network that it was given', async () => {
    for (const host of hosts.all) {
      expect(await hosts.virsh(host.name, 'capabilities')).toContain(`<uuid>${host.uuid}</uuid>`)
      expect(await hosts.exec(host.name, ['hostname'])).toBe(host.name)
    }
  })

  test('a guest migrates around them and obeys the power button at the end', async () => {
    const serial = await startGuest('ring')
    const took: number[] = []
    for (const [from, to] of [
      ['h1', 'h2'],
      ['h2', 'h3'],
      ['h3', 'h1']
    ] as const) {
      const began = performance.now()
      await migrate('ring', from, to)
      took.push(Math.round(performance.now() - began))
      expect(await state(to, 'ring')).toBe('running (migrated)')
      expect(await names(from)).not.toContain('ring')
    }
    console.log(`three live migrations: ${took.join(', ')} ms`)
    await hosts.virsh('h1', 'shutdown', 'ring')
    await eventually(async () => expect(await state('h1', 'ring')).toBe('shut off (shutdown)'))
    expect(await run('cat', [serial])).toBe('B\nP')
    await hosts.virsh('h1', 'undefine', 'ring')
  })

  test('a dirty guest does not converge over a slow link, and can be aborted', async () => {
    await startGuest('dirty', { dirtyMiB: 48 })
    const migration = migrate('dirty', 'h1', 'h2', '--bandwidth', '20').catch((error: unknown) => error)
    // More than the guest's memory has gone over the wire and it is still at it.
    await eventually(async () => {
      const processed = /Data processed:\s+([\d.]+) MiB/.exec(await hosts.virsh('h1', 'domjobinfo', 'dirty'))
      expect(Number(processed?.[1] ?? 0)).toBeGreaterThan(70)
    })
    await hosts.virsh('h1', 'domjobabort', 'dirty')
    expect(String(await migration)).toContain('canceled by client')
    expect(await state('h1', 'dirty')).toMatch(/^running/)
    expect(await names('h2')).toEqual([])
    await hosts.virsh('h1', 'shutdown', 'dirty')
    await eventually(async () => expect(await state('h1', 'dirty')).toBe('shut off (shutdown)'))
    await hosts.virsh('h1', 'undefine', 'dirty')
  })

  test('TLS with the client certificate and ssh reach them from the manager', async () => {
    const tls = hosts.asManager('virsh', ['-c', `qemu+tls://h2/system?pkipath=${hosts.tls.directory}`, 'hostname'])
    expect(await run(tls.command, tls.args)).toContain('h2')
    expect(await run('virsh', ['-c', hosts.host('h3').sshUri, 'hostname'])).toContain('h3')
    expect(await run(hosts.ssh.command, ['h3', 'command -v virt-ssh-helper'])).toBe('/usr/bin/virt-ssh-helper')
  })

  test('without a client certificate TLS refuses', async () => {
    const stranger = hosts.asManager('virsh', ['-c', 'qemu+tls://h2/system', 'hostname'])
    await expect(run(stranger.command, stranger.args)).rejects.toMatchObject({ code: 'failed' })
  })

  test('a cut link lets nothing through until it is restored', async () => {
    const reach = (): Promise<string> => {
      const { command, args } = hosts.asManager(process.execPath, ['-e', probe, '10.77.0.2'])
      return run(command, args)
    }
    expect(await reach()).toBe('open')
    await hosts.cutLink('h2')
    expect(await reach()).toBe('silent')
    expect(await names('h2')).toEqual([]) // the socket of the machine is another way in
    await hosts.restoreLink('h2')
    expect(await reach()).toBe('open')
  })

  test('a guest outlives its libvirtd, whichever way that ends', async () => {
    await startGuest('stays')
    for (const signal of ['TERM', 'KILL'] as const) {
      await hosts.restartLibvirtd('h1', signal)
      expect(await state('h1', 'stays')).toMatch(/^running/)
    }
    await hosts.virsh('h1', 'destroy', 'stays')
    await hosts.virsh('h1', 'undefine', 'stays')
  })

  test('a host that lost power comes back with its definitions and without its guests', async () => {
    await startGuest('lost')
    await hosts.crash('h1', { silent: true })
    await expect(hosts.virsh('h1', 'list')).rejects.toThrow('Connection refused')
    await hosts.boot('h1')
    expect(await state('h1', 'lost')).toMatch(/^shut off/)
    expect(await hosts.virsh('h1', 'capabilities')).toContain(hosts.host('h1').uuid)
    await hosts.virsh('h1', 'undefine', 'lost')
  })

  test('a frozen guest stops answering and goes on when it is thawed', async () => {
    await startGuest('frozen')
    await hosts.signalGuest('h1', 'frozen', 'STOP')
    const call = hosts.virsh('h1', 'qemu-monitor-command', 'frozen', '{"execute":"query-status"}')
    const first = await Promise.race([call.then(() => 'answer'), new Promise((done) => setTimeout(done, 700, 'none'))])
    expect(first).toBe('none')
    await hosts.signalGuest('h1', 'frozen', 'CONT')
    expect(await call).toContain('running')
    await hosts.virsh('h1', 'destroy', 'frozen')
    await hosts.virsh('h1', 'undefine', 'frozen')
  })
})

/** Connects to the TLS port of a host: `open`, `refused`, or `silent` when nothing came back within a second. */
const probe = `
  const socket = require('node:net').connect(16514, process.argv[1])
  const say = (word) => { console.log(word); process.exit() }
  socket.on('connect', () => say('open')).on('error', () => say('refused'))
  setTimeout(say, 1000, 'silent')
`

describeWith('real hosts', 'hosts side by side', () => {
  test('two sets run at once, one with the limits of an untouched libvirtd, and neither leaves a process', async () => {
    const [one, two] = await Promise.all([startHosts({ count: 1 }), startHosts({ count: 1, limits: 'stock' })])
    try {
      expect(await one.virsh('h1', 'list', '--name')).toBe('')
      expect(await two.exec('h1', ['grep', '-c', 'max_client', '/etc/libvirt/libvirtd.conf']).catch(() => 'none')).toBe(
        'none'
      )
    } finally {
      await Promise.all([one.stop(), two.stop(), two.stop()])
    }
    for (const { directory } of [one, two]) expect(await processesIn(directory)).toEqual([])
  })
})

describeWith('real hosts', 'a run that was killed', () => {
  test('leaves no process, and its directory goes when the next run starts', async () => {
    const killed = spawn(process.execPath, [join(import.meta.dirname, 'hosts.ts'), '1'], {
      stdio: ['ignore', 'pipe', 2]
    })
    const [line] = (await once(createInterface({ input: killed.stdout! }), 'line')) as [string]
    const directory = /socket=(.*)\/h1\//.exec(line)![1]!
    expect(await processesIn(directory)).not.toEqual([])
    killed.kill('SIGKILL')
    await eventually(async () => expect(await processesIn(directory)).toEqual([]))
    expect(existsSync(directory)).toBe(true)
    const next = await startHosts({ count: 1 })
    await next.stop()
    expect(existsSync(directory)).toBe(false)
  })
})

/** Command lines of the machine's processes that mention `text`. */
async function processesIn(text: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry))
  const lines = await Promise.all(pids.map((pid) => run('cat', [`/proc/${pid}/cmdline`]).catch(() => '')))
  return lines.filter((line) => line.includes(text))
}
