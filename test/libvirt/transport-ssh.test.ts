// A real sshd on loopback and the real virt-ssh-helper; and, where sshd is not needed, any program in ssh's place.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { connect, type OpenConnection } from '../../src/libvirt/connect.ts'
import type { ConnectionError } from '../../src/libvirt/errors.ts'
import { failure } from './client.ts'
import { LibvirtDaemon, untilListening, whyNoDaemon } from './daemon.ts'

const skip = whyNoDaemon(['libvirtd', 'unshare', 'setpriv', 'sshd', 'ssh', 'ssh-keygen', 'virt-ssh-helper'])

describe.skipIf(skip !== undefined)(`ssh (${skip ?? 'with sshd and libvirtd'})`, () => {
  let folder: string
  let daemon: LibvirtDaemon
  let sshd: ChildProcess
  let port: number

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'libvirt-ssh-'))
    daemon = await LibvirtDaemon.start()
    port = await freePort()
    for (const key of ['host', 'ours', 'strange'])
      execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, key)])
    execFileSync('cp', [join(folder, 'ours.pub'), join(folder, 'authorized')])
    writeFileSync(
      join(folder, 'known'),
      `[127.0.0.1]:${port} ${execFileSync('cat', [join(folder, 'host.pub')]).toString()}`
    )
    writeFileSync(join(folder, 'unknown'), '')
    writeFileSync(
      join(folder, 'sshd_config'),
      [
        `Port ${port}`,
        'ListenAddress 127.0.0.1',
        `HostKey ${join(folder, 'host')}`,
        `AuthorizedKeysFile ${join(folder, 'authorized')}`,
        `PidFile ${join(folder, 'sshd.pid')}`,
        'StrictModes no',
        'UsePAM no',
        'PermitRootLogin yes',
        'PasswordAuthentication no',
        'KbdInteractiveAuthentication no',
        `SetEnv XDG_RUNTIME_DIR=${join(daemon.folder, 'run')}`
      ].join('\n')
    )
    const server = ['/usr/sbin/sshd', '/usr/bin/sshd'].find((path) => existsSync(path))!
    // virt-ssh-helper knows only the usual places: for root /run/libvirt, which is ours in a mount namespace of sshd's own.
    const places = `mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd /run/libvirt && mount --bind "$0" /run/libvirt && exec "$@"`
    const inNamespace = [
      'unshare',
      '--mount',
      '--propagation',
      'private',
      'sh',
      '-c',
      places,
      join(daemon.folder, 'run/libvirt')
    ]
    const command = [
      ...(process.getuid?.() === 0 ? inNamespace : []),
      server,
      '-D',
      '-e',
      '-f',
      join(folder, 'sshd_config')
    ]
    sshd = spawn(command[0]!, command.slice(1), { stdio: 'ignore' })
    await untilListening({ port, host: '127.0.0.1' })
  }, 30_000)

  afterAll(async () => {
    sshd.kill()
    await daemon.stop()
    rmSync(folder, { recursive: true })
  })

  // Not root: the daemon of a `session` is in XDG_RUNTIME_DIR. The secrets' driver opens at once.
  const dial = (key: string, known: string): Promise<OpenConnection> => {
    const files = `keyfile=${join(folder, key)}&known_hosts=${join(folder, known)}`
    return connect(`secret+ssh://${userInfo().username}@127.0.0.1:${port}/session?${files}`, {
      ssh: { args: ['-F', 'none'] }
    })
  }

  test('a daemon is called through ssh, many calls at once, and ssh ends with the connection', async () => {
    const connection = await dial('ours', 'known')
    const answers = await Promise.all(Array.from({ length: 50 }, () => connection.call('CONNECT_GET_URI', {})))
    expect(new Set(answers.map(({ uri }) => uri))).toEqual(new Set(['secret:///session']))
    expect(await connection.close()).toMatchObject({ reason: 'closed' })
  })

  test('a key that the host does not know: not reached, with ssh’s own words', async () => {
    const error = (await failure(dial('strange', 'known'))) as ConnectionError
    expect(error).toMatchObject({ code: 'unreachable' })
    expect(error.message).toMatch(/Permission denied/)
  })

  test('a host key that we do not know: not reached, with ssh’s own words', async () => {
    const error = (await failure(dial('ours', 'unknown'))) as ConnectionError
    expect(error).toMatchObject({ code: 'unreachable' })
    expect(error.message).toMatch(/Host key verification failed/)
  })

  test('ssh’s death in mid-call leaves an unknown outcome', async () => {
    const script = program(
      'bridge.sh',
      `exec node -e '
      const { createConnection } = require("node:net")
      const socket = createConnection(process.env.TEST_SOCKET)
      process.stdin.pipe(socket).pipe(process.stdout)
      let replies = 0
      socket.on("data", () => { if (++replies === 4) process.kill(process.pid, "SIGKILL") })
    '`
    )
    process.env['TEST_SOCKET'] = daemon.socketPath
    const connection = await connect('test+ssh://h1/default', { ssh: { command: script }, serverPings: true })
    const call = failure(connection.call('CONNECT_GET_HOSTNAME', {}))
    // The fourth answer kills the bridge, before or after it was passed on.
    const outcome = await call
    const next = await failure(connection.call('CONNECT_GET_HOSTNAME', {}))
    expect([outcome, next].filter(Boolean)).not.toHaveLength(0)
    expect(await connection.closed).toMatchObject({
      reason: expect.stringMatching(/socket_error|closed_by_peer/) as string
    })
  })

  test('a program that fails says why; one that is not there cannot be started', async () => {
    const failing = program('fail.sh', 'echo "no route to host h1" >&2; exit 255')
    const error = (await failure(connect('test+ssh://h1/default', { ssh: { command: failing } }))) as ConnectionError
    expect(error).toMatchObject({ code: 'unreachable' })
    expect(error.message).toMatch(/no route to host h1/)
    expect(await failure(connect('test+ssh://h1/default', { ssh: { command: '/nonexistent/ssh' } }))).toMatchObject({
      code: 'unreachable',
      cause: { code: 'ENOENT' }
    })
  })

  function program(name: string, body: string): string {
    const path = join(folder, name)
    writeFileSync(path, `#!/bin/sh\n${body}\n`)
    chmodSync(path, 0o755)
    return path
  }
})

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise<void>((resolve) => void server.close(() => resolve()))
  return port
}
