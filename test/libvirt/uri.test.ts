// Addresses of hosts: which are understood, and which are refused before anything is tried.

import { expect, test } from 'vitest'
import { connect } from '../../src/libvirt/connect.ts'
import { ConnectionError } from '../../src/libvirt/errors.ts'
import { sshArgs } from '../../src/libvirt/transport-ssh.ts'
import { parseUri } from '../../src/libvirt/uri.ts'

test('addresses of every form are understood', () => {
  const rows: [string, object][] = [
    ['qemu:///system', { driver: 'qemu', transport: 'unix', host: null, name: 'qemu:///system', socket: null }],
    ['test:///default?socket=/tmp/s', { transport: 'unix', name: 'test:///default', socket: '/tmp/s' }],
    ['test+unix:///default?socket=/tmp/s', { transport: 'unix', name: 'test:///default', socket: '/tmp/s' }],
    ['qemu+unix:///system?socket=/run/h%201/sock', { transport: 'unix', socket: '/run/h 1/sock' }],
    ['qemu://h1/system', { transport: 'tls', host: 'h1', port: null, name: 'qemu:///system' }],
    [
      'qemu+tls://h1.example.org:16515/system?pkipath=/etc/p',
      { transport: 'tls', host: 'h1.example.org', port: 16_515, pkiPath: '/etc/p' }
    ],
    ['qemu+tls://[::1]:16514/system', { transport: 'tls', host: '::1', port: 16_514 }],
    ['qemu+tls://10.0.0.1/system', { host: '10.0.0.1' }],
    [
      'qemu+ssh://root@h1:2222/system?keyfile=/k&known_hosts=/kh',
      { transport: 'ssh', user: 'root', host: 'h1', port: 2222, keyFile: '/k', knownHosts: '/kh' }
    ],
    ['qemu+ssh://h1/session?name=qemu:///system', { transport: 'ssh', name: 'qemu:///system' }],
    ['qemu+tcp://127.0.0.1/system', { transport: 'tcp', host: '127.0.0.1' }]
  ]
  for (const [text, expected] of rows) expect(parseUri(text), text).toMatchObject(expected)
})

test('what is no address, or not safe to follow, is refused with the reason and the value', () => {
  const rows: [string, RegExp][] = [
    ['', /has not the form/],
    ['h1', /has not the form/],
    ['qemu', /has not the form/],
    ['QEMU:///system', /has not the form/],
    ['qemu:///system#x', /has not the form/],
    [`qemu+unix:///${'x'.repeat(5000)}`, /has not the form/],
    ['qemu+libssh2://h1/system', /transport libssh2 is not one of unix, tls, ssh, tcp/],
    ['qemu+ssh:///system', /needs a host/],
    ['qemu+unix://h1/system', /has no host/],
    ['qemu+ssh://-oProxyCommand=touch%20x/system', /is not a host name/],
    ['qemu+ssh://-oProxyCommand/system', /is not a host name/],
    ['qemu+ssh://h1;reboot/system', /is not a host name/],
    ['qemu+ssh://h1 x/system', /is not a host name/],
    ['qemu+ssh://$(id)/system', /is not a host name/],
    ['qemu+ssh://-l@h1/system', /is not a user name/],
    ['qemu+ssh://a b@h1/system', /is not a user name/],
    ['qemu+tls://root@h1/system', /has no user/],
    ['qemu+tls://h1:99999/system', /is not a port/],
    ['qemu+tls://h1:0/system', /is not a port/],
    ['qemu+tls://h1:x/system', /is not a port/],
    ['qemu+tls://[zz]/system', /is not a host name/],
    ['qemu+tls://h1/system?no_verify=1', /"no_verify" is not allowed/],
    ['qemu+ssh://h1/system?command=/bin/evil', /"command" is not allowed/],
    ['qemu+ssh://h1/system?netcat=/bin/evil', /"netcat" is not allowed/],
    ['qemu+unix:///system?socket=relative', /must be an absolute path/],
    ['qemu+unix:///system?socket=/a&socket=/b', /given twice/],
    ['qemu+unix:///system?socket=/a%0ab', /control characters/]
  ]
  for (const [text, why] of rows) {
    const parse = (): unknown => parseUri(text)
    expect(parse, text).toThrow(why)
    expect(parse, text).toThrow(ConnectionError)
  }
})

test('plain TCP is refused unless allowed outright', async () => {
  await expect(connect('qemu+tcp://127.0.0.1:1/system')).rejects.toMatchObject({ code: 'bad_uri' })
  await expect(connect('qemu+tcp://127.0.0.1:1/system', { allowPlaintext: true })).rejects.toMatchObject({
    code: 'unreachable'
  })
})

test('ssh gets the host after --, and the far shell single-quoted words', () => {
  const uri = parseUri("qemu+ssh://root@h1:2222/system?keyfile=/k&known_hosts=/kh&name=qemu:///a'b$(id)")
  const args = sshArgs(uri, { args: ['-F', '/cfg'] }, true)
  expect(args.slice(0, 2)).toEqual(['-F', '/cfg'])
  expect(args.slice(-3)).toEqual(['--', 'h1', String.raw`'virt-ssh-helper' '-r' 'qemu:///a'\''b$(id)'`])
  expect(args).toContain('-oBatchMode=yes')
  expect(args.join(' ')).toContain('-l root -p 2222 -i /k')
})
