// What the target of a migration is asked before anything moves, and what its answers mean.
import { expect, test } from 'vitest'
import type { HostCalls } from '../../src/host/calls.ts'
import { HostError } from '../../src/host/error.ts'
import { whyNotHere } from '../../src/host/migration-needs.ts'
import { ErrorCode } from '../../src/libvirt/constants.gen.ts'

const refusal = (code: number, message: string) =>
  new HostError('refused', 'h2', `h2 refused: ${message}`, {
    libvirt: { code, codeName: '', domain: 0, domainName: '', message }
  })

/** Answers by procedure; what is not named is not supported. */
function host(answers: Record<string, object | HostError | ((args: object) => object | HostError)>) {
  const asked: { name: string; args: object }[] = []
  const read = (name: string, args: object) => {
    asked.push({ name, args })
    const set = answers[name] ?? refusal(ErrorCode.NO_SUPPORT, name)
    const answer = typeof set === 'function' ? set(args) : set
    return answer instanceof HostError ? Promise.reject(answer) : Promise.resolve(answer)
  }
  return { calls: { name: 'h2', read } as unknown as HostCalls, asked }
}

const guest = (devices = '', cpu = '') => `<domain type="kvm"><name>web1</name>
  <os><type arch="x86_64" machine="pc-i440fx-9.2">hvm</type></os>${cpu}<devices>${devices}</devices></domain>`

test('a host that can tell nothing has nothing against it', async () => {
  const { calls } = host({})
  const cpu = '<cpu mode="custom"><model>Skylake</model></cpu>'
  expect(await whyNotHere(calls, guest('<interface type="bridge"><source bridge="br0"/></interface>', cpu))).toEqual([])
})

test('machine type, CPU, secrets, bridges and displays that are not there are all said', async () => {
  const { calls, asked } = host({
    CONNECT_GET_DOMAIN_CAPABILITIES: refusal(ErrorCode.INVALID_ARG, 'machine is not supported'),
    CONNECT_COMPARE_HYPERVISOR_CPU: refusal(ErrorCode.CPU_INCOMPATIBLE, 'missing features: avx512f'),
    SECRET_LOOKUP_BY_UUID: ({ uuid }: { uuid?: string }) =>
      uuid === 's1' ? {} : refusal(ErrorCode.NO_SECRET, 'no secret'),
    CONNECT_LIST_ALL_INTERFACES: { ifaces: [{ name: 'br0', mac: '' }], ret: 1 }
  })
  const devices = `
    <disk type="network"><source protocol="rbd" name="a"><auth><secret type="ceph" uuid="s1"/></auth></source></disk>
    <disk type="file"><source file="/a"><encryption><secret type="passphrase" uuid="s2"/></encryption></source></disk>
    <interface type="bridge"><source bridge="br0"/></interface><interface type="bridge"><source bridge="br9"/></interface>
    <graphics type="vnc"><listen type="address" address="10.0.0.5"/></graphics>`
  const cpu = '<cpu mode="custom"><model>Skylake</model></cpu>'
  expect(await whyNotHere(calls, guest(devices, cpu))).toEqual([
    'it does not have machine type pc-i440fx-9.2: machine is not supported',
    'its CPU lacks what the guest has: missing features: avx512f',
    'it does not have secret s2',
    'it has no bridge br9',
    'its display at 10.0.0.5 is an address of one host only'
  ])
  expect(asked.find(({ name }) => name === 'CONNECT_COMPARE_HYPERVISOR_CPU')?.args).toMatchObject({
    arch: 'x86_64',
    machine: 'pc-i440fx-9.2',
    virttype: 'kvm',
    xmlCPU: expect.stringContaining('Skylake')
  })
})

test('a CPU without a model, and displays that listen anywhere, are nothing to ask about', async () => {
  const { calls, asked } = host({})
  const devices =
    '<graphics type="vnc" listen="0.0.0.0"/><graphics type="spice"><listen type="network" network="lan"/></graphics>'
  expect(await whyNotHere(calls, guest(devices, '<cpu mode="host-passthrough"/>'))).toEqual([])
  expect(asked.map(({ name }) => name)).toEqual(['CONNECT_GET_DOMAIN_CAPABILITIES'])
})

test('a host that does not answer is no answer', async () => {
  const silent = new HostError('unreachable', 'h2', 'h2: down')
  const { calls } = host({ CONNECT_GET_DOMAIN_CAPABILITIES: silent })
  await expect(whyNotHere(calls, guest())).rejects.toBe(silent)
})
