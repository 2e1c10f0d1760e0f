// How fast the libvirt client is: `node bench/libvirt.ts [--calls N]`. Calls to libvirt's test driver in a daemon of our own, on the same
// machine, so the daemon's work is in the figures; beside it the same client against a socket that answers at once (the client alone),
// virsh by process, and @unraid/libvirt where it is built. Each figure is the best of `--rounds N` (3): other work on the machine only slows.
// Prints a table, and JSON as its last line.

import { execFileSync } from 'node:child_process'
import { createServer, type Socket } from 'node:net'
import { rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { connect, type OpenConnection } from '../src/libvirt/connect.ts'
import { encodeFrame, FrameSplitter } from '../src/libvirt/frame.ts'
import { decodeCall, encodeReply } from '../src/libvirt/payload.ts'
import { MessageStatus, MessageType } from '../src/libvirt/protocol.ts'
import type { Domain } from '../src/libvirt/wire.gen.ts'
import { LibvirtDaemon, whyNoDaemon } from '../test/libvirt/daemon.ts'

interface Figures {
  readonly what: string
  readonly callsPerSecond: number
  /** Of this process, user and system. */
  readonly cpuMicrosPerCall: number | null
  readonly p50Ms: number | null
  readonly p99Ms: number | null
}

const { values } = parseArgs({
  options: { calls: { type: 'string', default: '20000' }, rounds: { type: 'string', default: '3' } }
})
const calls = Number(values.calls)
const rounds = Number(values.rounds)
const dom: Domain = { name: 'test', uuid: '6695eb01-f6a4-8304-79aa-97f2502e193f', id: 1 }

/** `callers` callers, each with one call at a time; the connection's window is what limits. */
async function measure(what: string, connection: OpenConnection, callers: number): Promise<Figures> {
  const run = async (count: number): Promise<number[]> => {
    let left = count
    const times: number[] = []
    await Promise.all(
      Array.from({ length: callers }, async () => {
        while (left-- > 0) {
          const started = performance.now()
          await connection.call('DOMAIN_GET_STATE', { dom, flags: 0 })
          times.push(performance.now() - started)
        }
      })
    )
    return times
  }
  await run(Math.min(calls, 5000))
  const results: Figures[] = []
  for (let round = 0; round < rounds; round++) {
    const cpu = process.cpuUsage()
    const started = performance.now()
    const times = await run(calls)
    const ms = performance.now() - started
    const { user, system } = process.cpuUsage(cpu)
    times.sort((a, b) => a - b)
    results.push({
      what,
      callsPerSecond: Math.round((calls / ms) * 1000),
      cpuMicrosPerCall: rounded((user + system) / calls, 1),
      p50Ms: rounded(times[Math.floor(times.length * 0.5)]!, 3),
      p99Ms: rounded(times[Math.floor(times.length * 0.99)]!, 3)
    })
  }
  return results.reduce((best, one) => (one.callsPerSecond > best.callsPerSecond ? one : best))
}

const rounded = (value: number, digits: number): number => Math.round(value * 10 ** digits) / 10 ** digits

async function againstLibvirtd(): Promise<Figures[]> {
  const daemon = await LibvirtDaemon.start()
  try {
    const figures: Figures[] = []
    for (const [window, callers] of [
      [1, 1],
      [4, 4],
      [4, 64]
    ] as const) {
      const connection = await connect(daemon.uri('test:///default'), { window })
      figures.push(await measure(`libvirtd test driver, window ${window}, ${callers} callers`, connection, callers))
      await connection.close()
    }
    figures.push(virsh(daemon))
    return figures
  } finally {
    await daemon.stop()
  }
}

function virsh(daemon: LibvirtDaemon): Figures {
  const runs = 20
  const started = performance.now()
  for (let i = 0; i < runs; i++)
    execFileSync('virsh', ['-c', daemon.uri('test:///default'), 'domstate', 'test'], { stdio: 'ignore' })
  const ms = (performance.now() - started) / runs
  return {
    what: 'virsh domstate, a process per call',
    callsPerSecond: Math.round(1000 / ms),
    cpuMicrosPerCall: null,
    p50Ms: rounded(ms, 1),
    p99Ms: null
  }
}

/** Answers every DOMAIN_GET_STATE with the same bytes: what remains is the client's own cost. */
async function againstEcho(): Promise<Figures[]> {
  const path = join(tmpdir(), `libvirt-bench-${process.pid}.sock`)
  const server = createServer(serve)
  await new Promise<void>((resolve) => void server.listen(path, resolve))
  try {
    const connection = await connect(`test+unix:///default?socket=${path}`)
    const what = 'a socket that answers at once (same process: CPU of both sides), window 4'
    const figures = [
      await measure(`${what}, 4 callers`, connection, 4),
      await measure(`${what}, 64 callers`, connection, 64)
    ]
    await connection.close()
    return figures
  } finally {
    server.close()
    rmSync(path, { force: true })
  }
}

function serve(socket: Socket): void {
  const splitter = new FrameSplitter()
  const answers: Record<string, Buffer> = {
    AUTH_LIST: encodeReply('AUTH_LIST', { types: [] }),
    CONNECT_SUPPORTS_FEATURE: encodeReply('CONNECT_SUPPORTS_FEATURE', { supported: 1 }),
    CONNECT_OPEN: Buffer.alloc(0),
    CONNECT_CLOSE: Buffer.alloc(0)
  }
  const state = encodeReply('DOMAIN_GET_STATE', { state: 1, reason: 1 })
  socket.on('data', (chunk: Buffer) =>
    splitter.push(chunk, (frame) => {
      const reply = frame.procedure === 212 ? state : answers[decodeCall(frame.procedure, frame.payload)?.name ?? '']
      if (reply) socket.write(encodeFrame({ ...frame, type: MessageType.REPLY, status: MessageStatus.OK }, reply))
    })
  )
}

async function unraid(): Promise<string> {
  const name = '@unraid/libvirt'
  try {
    await import(name)
    return `${name}: built, but not measured here`
  } catch (error) {
    return `${name}: not built (${error instanceof Error ? error.message.split('\n')[0] : String(error)})`
  }
}

const reason = whyNoDaemon()
const figures = [...(reason ? [] : await againstLibvirtd()), ...(await againstEcho())]
console.table(figures)
if (reason) console.log(`libvirtd and virsh: not measured (${reason})`)
console.log(await unraid())
console.log(JSON.stringify({ calls, figures }))
