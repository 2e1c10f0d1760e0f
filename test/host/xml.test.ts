// What is written to hosts and read from them as XML, and what is refused before any host sees it.

import { describe, expect, test } from 'vitest'
import { readCapabilities } from '../../src/host/capabilities.ts'
import { powerOf, readVmXml } from '../../src/host/observed-vm.ts'
import { poolXml } from '../../src/host/pool-xml.ts'
import { readPoolXml, readVolumeXml, volumeXml } from '../../src/host/storage-xml.ts'
import { escapeXml, GIVEN_XML_BYTES, parseXml } from '../../src/host/xml.ts'
import { markedXml, vmXml } from '../../src/host/vm-xml.ts'
import type { VmMark, VmSpec } from '../../src/model/vm.ts'

const mark: VmMark = { instance: '0c9c1a52-7d1a-4f4e-8a0b-000000000001', task: 41, generation: 2 }

const spec: VmSpec = {
  uuid: '0c9c1a52-7d1a-4f4e-8a0b-000000000002',
  name: 'web1',
  memoryMiB: 2048,
  vcpus: 2,
  disks: [
    { path: '/srv/web1.qcow2', format: 'qcow2', bus: 'virtio', device: 'disk', readOnly: false },
    { path: '/dev/vg/data', format: 'raw', bus: 'virtio', device: 'disk', readOnly: false, shareable: true },
    { path: '/srv/install.iso', format: 'raw', bus: 'sata', device: 'cdrom', readOnly: true }
  ],
  nics: [
    { mac: '52:54:00:00:00:01', network: 'lan', model: 'virtio' },
    { mac: '52:54:00:00:00:02', bridge: 'br0', model: 'e1000' }
  ],
  firmware: 'bios',
  graphics: 'none'
}
const kvm = { arch: 'x86_64', domainType: 'kvm', emulator: '/usr/bin/qemu-system-x86_64', machine: 'q35' }

describe('a definition made from a spec', () => {
  test('reads back as what was asked for', () => {
    expect(readVmXml(vmXml(spec, mark, kvm))).toEqual({
      uuid: spec.uuid,
      name: 'web1',
      memoryMiB: 2048,
      maxMemoryMiB: 2048,
      vcpus: 2,
      disks: [
        {
          target: 'vda',
          device: 'disk',
          kind: 'file',
          source: '/srv/web1.qcow2',
          format: 'qcow2',
          bus: 'virtio',
          readOnly: false,
          shareable: false
        },
        {
          target: 'vdb',
          device: 'disk',
          kind: 'block',
          source: '/dev/vg/data',
          format: 'raw',
          bus: 'virtio',
          readOnly: false,
          shareable: true
        },
        {
          target: 'sda',
          device: 'cdrom',
          kind: 'file',
          source: '/srv/install.iso',
          format: 'raw',
          bus: 'sata',
          readOnly: true,
          shareable: false
        }
      ],
      nics: [
        { mac: '52:54:00:00:00:01', kind: 'network', source: 'lan', model: 'virtio' },
        { mac: '52:54:00:00:00:02', kind: 'bridge', source: 'br0', model: 'e1000' }
      ],
      mark,
      foreignMetadata: []
    })
  })

  test('bounds the emulator and has no host CPU where there is no KVM', () => {
    const emulated = vmXml(spec, mark, { ...kvm, domainType: 'qemu' })
    expect(emulated).toContain('<tb-cache unit="MiB">32</tb-cache>')
    expect(emulated).not.toContain('host-model')
    expect(vmXml(spec, mark, kvm)).not.toContain('tb-cache')
  })

  test('keeps UEFI variables beside the disk', () => {
    expect(vmXml({ ...spec, firmware: 'uefi' }, mark, kvm)).toContain('<nvram>/srv/web1_VARS.fd</nvram>')
  })

  test.each(['"/><evil a="', '</name><devices>', '&xxe;', "'; $() `id`"])('cannot be broken out of by %s', (text) => {
    const disk = { path: `/srv/${text}`, format: text, bus: 'virtio', device: 'disk' as const, readOnly: false }
    const read = readVmXml(vmXml({ ...spec, name: text, disks: [disk] }, mark, kvm))
    expect(read.name).toBe(text.trim())
    expect(read.disks).toHaveLength(1)
    expect(read.disks[0]).toMatchObject({ source: `/srv/${text}`, format: text })
  })

  test('refuses what XML cannot hold', () => {
    expect(() => vmXml({ ...spec, name: 'a\0b' }, mark, kvm)).toThrow('characters that XML cannot hold')
  })
})

describe('given XML', () => {
  const given = (body: string) => `<domain type='kvm'>${body}<memory>1048576</memory><devices/></domain>`
  const set = { uuid: spec.uuid, name: 'adopted' }

  test('gets our name, UUID and mark, in place of what it had', () => {
    const first = markedXml(given('<name>old</name><uuid>11111111-1111-4111-8111-111111111111</uuid>'), set, mark)
    const second = markedXml(first, { ...set, name: 'again' }, { ...mark, task: 42 })
    expect(readVmXml(second)).toMatchObject({
      uuid: spec.uuid,
      name: 'again',
      mark: { ...mark, task: 42 },
      maxMemoryMiB: 1024
    })
    expect(second.match(/urn:taskomatic:vm:1/g)).toHaveLength(1)
    expect(second.match(/<uuid>/g)).toHaveLength(1)
  })

  test('keeps the metadata of others and names its namespaces', () => {
    const other = '<metadata><o:vm xmlns:o="http://ovirt.org/vm/1.0"><o:x/></o:vm></metadata>'
    const read = readVmXml(markedXml(given(other), set, mark))
    expect(read.foreignMetadata).toEqual(['http://ovirt.org/vm/1.0'])
    expect(read.mark).toEqual(mark)
  })

  const bomb =
    '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>' + given('<name>&b;</name>')
  test.each([
    ['a document type', bomb, 'document type'],
    ['an external entity', `<!doctype d [<!ENTITY x SYSTEM "file:///etc/passwd">]>${given('&x;')}`, 'document type'],
    ['NUL', given('<name>a\0</name>'), 'NUL'],
    ['more than a megabyte', given(`<name>${'a'.repeat(GIVEN_XML_BYTES)}</name>`), '1048576 are allowed'],
    ['an element that is not closed', '<domain><a><b></a></domain>', 'not well-formed'],
    ['nothing', '', 'not well-formed'],
    ['another kind of thing', '<network><name>a</name></network>', 'not <domain>'],
    ['an undefined entity', given('<name>&nope;</name>'), 'not well-formed']
  ])('with %s is refused at once', (_what, xml, message) => {
    const begun = performance.now()
    expect(() => markedXml(xml, set, mark)).toThrow(message)
    expect(performance.now() - begun).toBeLessThan(50)
  })
})

describe('what hosts say', () => {
  test('sizes carry their unit', () => {
    const read = (memory: string) => readVmXml(`<domain><name>a</name>${memory}</domain>`).maxMemoryMiB
    expect(read(`<memory unit='KiB'>2097152</memory>`)).toBe(2048)
    expect(read(`<memory>1048576</memory>`)).toBe(1024)
    expect(read(`<memory unit='GiB'>3</memory>`)).toBe(3072)
    expect(read(`<memory unit='b'>1073741824</memory>`)).toBe(1024)
  })

  test('disks of every kind are told apart', () => {
    const disk = (type: string, source: string) =>
      readVmXml(`<domain><devices><disk type='${type}'>${source}<target dev='vda'/></disk></devices></domain>`).disks[0]
    expect(disk('volume', `<source pool='nfs1' volume='a'/>`)).toMatchObject({ kind: 'volume', source: 'nfs1/a' })
    expect(disk('network', `<source protocol='rbd' name='p/i'/>`)).toMatchObject({ kind: 'network', source: 'p/i' })
    expect(disk('file', '')).toMatchObject({ kind: 'none', source: null })
  })

  test('states and reasons have words', () => {
    expect(powerOf(1, 2)).toEqual({ power: 'running', reason: 'migrated' })
    expect(powerOf(3, 5)).toEqual({ power: 'paused', reason: 'io error' })
    expect(powerOf(3, 13)).toEqual({ power: 'paused', reason: 'post-copy failed' })
    expect(powerOf(5, 4)).toEqual({ power: 'off', reason: 'migrated' })
    expect(powerOf(5, 99)).toEqual({ power: 'off', reason: 'reason 99' })
  })

  test('remote pools on one place have one source, whatever else differs', () => {
    const netfs = (source: string, target: string) =>
      readPoolXml(`<pool type='netfs'><name>a</name><uuid>u</uuid><source>${source}</source>
        <target><path>${target}</path></target></pool>`)
    const one = netfs(`<host name='Filer'/><dir path='/export/vms/'/><format type='nfs'/>`, '/mnt/a')
    const same = netfs(`<format type='auto'/><dir path='/export/vms'/><host name='filer'/>`, '/mnt/b')
    const other = netfs(`<host name='filer'/><dir path='/export/other'/>`, '/mnt/a')
    expect(one.source).toBe('netfs://filer|/export/vms')
    expect(same.source).toBe(one.source)
    expect(other.source).not.toBe(one.source)
    expect(readPoolXml(poolXml({ name: 'a', type: 'dir', target: '/srv' }))).toMatchObject({
      type: 'dir',
      target: '/srv',
      source: null
    })
  })

  test('a volume reads back', () => {
    const xml = volumeXml({ name: 'a & b', format: 'qcow2', capacityBytes: 5_000_000_000 })
    expect(readVolumeXml(xml)).toMatchObject({
      name: 'a & b',
      format: 'qcow2',
      capacityBytes: 5_000_000_000,
      backing: null
    })
  })

  test('capabilities choose KVM before emulation and the newer machine', () => {
    const caps = (domains: string) => `<capabilities><host><uuid>u</uuid><cpu><arch>x86_64</arch></cpu></host>
      <guest><os_type>hvm</os_type><arch name='i686'><domain type='qemu'/></arch></guest>
      <guest><os_type>hvm</os_type><arch name='x86_64'><emulator>/q</emulator><machine>pc</machine><machine>q35</machine>${domains}</arch></guest>
      </capabilities>`
    expect(readCapabilities(caps(`<domain type='qemu'/><domain type='kvm'/>`))).toEqual({
      uuid: 'u',
      arch: 'x86_64',
      domainType: 'kvm',
      emulator: '/q',
      machine: 'q35'
    })
    expect(readCapabilities(caps(`<domain type='qemu'/>`)).domainType).toBe('qemu')
  })
})

test('every character that means something is escaped', () => {
  const nasty = `<&>"'`
  const element = parseXml(`<a b="${escapeXml(nasty)}">${escapeXml(nasty)}</a>`, 'a')
  expect([element.getAttribute('b'), element.textContent]).toEqual([nasty, nasty])
})
