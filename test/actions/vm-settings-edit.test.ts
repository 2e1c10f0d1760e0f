// Editing a definition on simulated hosts: what was not shown stays, what changed meanwhile is not overwritten, and it can be taken back.
import { expect, test } from 'vitest'
import { digestOf, vmEdit } from '../../src/actions/vm-edit.ts'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import { editedXml } from '../../src/host/vm-edit.ts'
import { errorIn, textOf, withStage, type Stage } from './stage.ts'

const given = `<domain type='qemu'><name>x</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
  <os><type arch='x86_64'>hvm</type></os>
  <devices><graphics type='vnc' port='-1' autoport='yes' passwd='sesame'/></devices></domain>`

const made = async (stage: Stage): Promise<string> =>
  textOf((await stage.done(vmCreate, { name: 'web1', host: 'h1', xml: given }))['uuid'])
const shown = (stage: Stage, uuid: string) => stage.hosts.host('h1').vmXml(uuid, { inactive: true, secure: false })
const secure = (stage: Stage, uuid: string) => stage.hosts.host('h1').vmXml(uuid, { inactive: true, secure: true })

test('a definition is replaced, the password that was not shown stays, and once more is harmless', () =>
  withStage({}, async (stage) => {
    const uuid = await made(stage)
    const xml = await shown(stage, uuid)
    expect(xml).not.toContain('sesame')
    const edited = xml.replace(/<vcpu[^>]*>1</, '<vcpu>3<')
    const task = stage.task(vmEdit, { vm: uuid, xml: edited, was: digestOf(xml) })
    expect((await task.run()).outcome).toMatchObject({ outcome: 'complete', result: { fromNextBoot: false } })
    expect(await stage.hosts.host('h1').vmSizes(uuid)).toMatchObject({ definition: { vcpus: 3 } })
    expect(await secure(stage, uuid)).toContain('sesame')
    expect(stage.memory.facts(`vm/${uuid}`)).toMatchObject({ vcpus: 3, owner: 'ours' })
    const defined = () => stage.fleet.journal.entries({ kind: 'defined', subject: uuid }).length
    const times = defined()
    expect((await task.run()).outcome.outcome).toBe('complete')
    expect(defined()).toBe(times)
  }))

test('an edit is taken back with its password, and not when something changed since', () =>
  withStage({}, async (stage) => {
    const uuid = await made(stage)
    const xml = await shown(stage, uuid)
    await stage.done(vmEdit, { vm: uuid, xml: xml.replace(/<vcpu[^>]*>1</, '<vcpu>3<'), was: digestOf(xml) })
    const undo = vmEdit.undo?.({ vm: uuid, xml, was: digestOf(xml) }, stage.observed(null))
    if (!undo || 'impossible' in undo) throw new Error('an edit can be undone')
    await stage.done(vmEdit, undo.args)
    expect(await stage.hosts.host('h1').vmSizes(uuid)).toMatchObject({ definition: { vcpus: 1 } })
    expect(await secure(stage, uuid)).toContain('sesame')
    expect(errorIn(await stage.run(vmEdit, undo.args))).toMatchObject({ code: 'definition_changed' })
  }))

test('what changed since it was read is not overwritten', () =>
  withStage({}, async (stage) => {
    const uuid = await made(stage)
    const xml = await shown(stage, uuid)
    await stage.hosts.host('h1').setVcpus(uuid, 2, 'definition', { maximum: true })
    const before = await secure(stage, uuid)
    expect(errorIn(await stage.run(vmEdit, { vm: uuid, xml, was: digestOf(xml) }))).toMatchObject({
      code: 'definition_changed'
    })
    expect(await secure(stage, uuid)).toBe(before)
  }))

test('a running guest has it from its next boot on, and a lost answer is found by the mark', () =>
  withStage({}, async (stage) => {
    const uuid = await made(stage)
    await stage.done(vmStart, { vm: uuid })
    const xml = await shown(stage, uuid)
    stage.fleet.host('h1').faults.add({ on: 'DOMAIN_DEFINE_XML_FLAGS', fault: { kind: 'drop_after' }, times: 1 })
    const edited = xml.replace(/<vcpu[^>]*>1</, '<vcpu>3<')
    expect((await stage.run(vmEdit, { vm: uuid, xml: edited, was: digestOf(xml) })).outcome.outcome).toBe('complete')
    expect(await stage.hosts.host('h1').vmSizes(uuid)).toMatchObject({
      running: { vcpus: 1 },
      definition: { vcpus: 3 }
    })
  }))

test.each([
  ['another name', (xml: string) => xml.replace('<name>web1<', '<name>web2<'), 'other_name'],
  ['another UUID', (xml: string) => xml.replace(/<uuid>.{8}/, '<uuid>00000000'), 'other_uuid'],
  ['no XML', () => '<domain', 'bad_xml']
])('a definition with %s is refused', (_, change, code) =>
  withStage({}, async (stage) => {
    const uuid = await made(stage)
    const xml = await shown(stage, uuid)
    expect(errorIn(await stage.run(vmEdit, { vm: uuid, xml: change(xml), was: digestOf(xml) }))).toMatchObject({ code })
  })
)

const mark = { instance: 'i', task: 7, generation: 2 }
const domain = (attributes: string) =>
  `<domain><name>a</name><uuid>u</uuid><devices><graphics type="vnc"${attributes}/></devices></domain>`
const current = { secure: domain(' passwd="old"'), shown: domain(' passwd="*****"') }

test.each([
  ['the mask stays what it stands for', ' passwd="*****"', 'passwd="old"'],
  ['another password is another', ' passwd="new"', 'passwd="new"']
])('of a display %s', (_, attributes, wanted) => {
  expect(editedXml(domain(attributes), current, mark)).toContain(wanted)
})

test('a password that was shown masked and is left out is taken away', () => {
  expect(editedXml(domain(''), current, mark)).not.toContain('passwd')
})
