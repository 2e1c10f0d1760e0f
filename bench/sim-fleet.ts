// How large a simulated fleet can be in one process, and how fast it answers.
//
//   node bench/sim-fleet.ts [HOSTS] [VMS]        default 500 10000
//
// The fleet runs in a process of its own; this one is the client. The last line is one JSON object.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from '../src/libvirt/connect.ts'
import { runSimHosts } from '../src/sim/command.ts'

const [hosts = 500, vms = 10_000] = process.argv.slice(2, 4).map(Number)

if (process.send) {
  const ended = new AbortController()
  process.on('message', () => ended.abort())
  process.on('disconnect', () => ended.abort())
  const dir = process.argv[4] ?? ''
  const print = (line: string): void => void (line.startsWith('h1 ') && process.send?.('up'))
  await runSimHosts({ dir, hosts, vms, memoryMiB: 1_048_576, print, signal: ended.signal })
  process.exit(0)
}

const dir = mkdtempSync(join(tmpdir(), 'sim-bench-'))
const began = performance.now()
const child = fork(import.meta.filename, [String(hosts), String(vms), dir], { execArgv: [] })
await once(child, 'message')
const upMs = performance.now() - began
const residentMiB = (field: string): number => {
  const status = readFileSync(`/proc/${child.pid}/status`, 'utf8')
  return Math.round(Number(new RegExp(`${field}:\\s+(\\d+)`).exec(status)?.[1]) / 1024)
}
const definedMiB = residentMiB('VmRSS')

// Every host gets a connection; all guests are started, then all are looked at in full.
const names = Array.from({ length: hosts }, (_, index) => `h${index + 1}`)
const connections = await Promise.all(
  names.map((name) => connect(`qemu+unix:///system?socket=${join(dir, `${name}.sock`)}`))
)
const domains = await Promise.all(
  connections.map(
    async (connection) => (await connection.call('CONNECT_LIST_ALL_DOMAINS', { need_results: 1, flags: 0 })).domains
  )
)
const startBegan = performance.now()
await Promise.all(
  domains.flatMap((list, index) => list.map((dom) => connections[index]!.call('DOMAIN_CREATE', { dom })))
)
const startMs = performance.now() - startBegan
const lookBegan = performance.now()
let xmlBytes = 0
await Promise.all(
  domains.flatMap((list, index) =>
    list.map(async (dom) => {
      const { xml } = await connections[index]!.call('DOMAIN_GET_XML_DESC', { dom, flags: 0 })
      xmlBytes += xml.length
    })
  )
)
const lookMs = performance.now() - lookBegan
const callBegan = performance.now()
const calls = 50_000
const [first] = connections
const asker = async (): Promise<void> => {
  for (let i = 0; i < calls / 50; i++) await first!.call('DOMAIN_GET_STATE', { dom: domains[0]![0]!, flags: 0 })
}
await Promise.all(Array.from({ length: 50 }, asker))
const callMs = performance.now() - callBegan
const result = {
  hosts,
  vms,
  upMs: Math.round(upMs),
  definedMiB,
  runningMiB: residentMiB('VmRSS'),
  peakMiB: residentMiB('VmHWM'),
  startsPerSecond: Math.round((vms / startMs) * 1000),
  liveXmlPerSecond: Math.round((vms / lookMs) * 1000),
  xmlBytes: Math.round(xmlBytes / vms),
  callsPerSecondOneConnection: Math.round((calls / callMs) * 1000)
}
await Promise.all(connections.map((connection) => connection.close()))
child.send('stop')
await once(child, 'exit')
rmSync(dir, { recursive: true, force: true })
console.log(JSON.stringify(result))
