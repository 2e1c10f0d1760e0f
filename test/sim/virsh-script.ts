// A script of virsh commands that is run against two hosts, simulated or real, and what it printed with names, ids, times
// and sizes of the machine taken out. Run on both kinds, the transcripts are compared line by line.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { virsh } from './support.ts'

export type ScriptHosts = {
  first: { uri: string }
  second: { uri: string }
  /** The second host's address as the first one's daemon reaches it. */
  peerUri: string
  /** A directory that both hosts have at this path; `vm.raw`, `vm.qcow2` and `extra.raw` are in it. */
  shared: string
  /** A directory that the first host may make a pool's folder in. */
  folder: string
  /** For files that virsh reads. */
  scratch: string
}

export type Step = { command: string; code: number; out: string }

const guestXml = (name: string, disk: string, format: string): string => `<domain type='qemu'><name>${name}</name>
  <memory unit='MiB'>64</memory><vcpu current='1'>2</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os>
  <features><acpi/><tcg><tb-cache unit='MiB'>32</tb-cache></tcg></features>
  <devices><disk type='file' device='disk'><driver name='qemu' type='${format}' cache='none'/><source file='${disk}'/>
    <target dev='vda' bus='virtio'/></disk><controller type='usb' model='none'/>
    <interface type='user'><mac address='52:54:00:11:22:33'/><model type='virtio'/></interface><memballoon model='virtio'/>
  </devices></domain>`

/** One line a step; `2:` is for the second host, `?` at the end waits for what the line before set going. */
function script({ shared, folder, scratch, peerUri }: ScriptHosts): string[] {
  const file = (name: string, text: string): string => {
    const path = join(scratch, name)
    writeFileSync(path, text)
    return path
  }
  const raw = file('vm.xml', guestXml('vm', `${shared}/vm.raw`, 'raw'))
  const qcow2 = file('snap.xml', guestXml('snap', `${shared}/vm.qcow2`, 'qcow2'))
  const missing = file('missing.xml', guestXml('missing', `${shared}/missing.raw`, 'raw'))
  const broken = file('broken.xml', '<domain type="qemu"><name>broken</name></domain>')
  const network = file('net.xml', "<network><name>n</name><forward mode='bridge'/><bridge name='br9'/></network>")
  const bytes = file('bytes', 'some bytes')
  return [
    'list --all',
    `define ${raw}`,
    `define ${broken}`,
    'list --all',
    'dumpxml vm',
    'domstate vm --reason',
    'shutdown vm',
    'destroy vm',
    'start vm',
    'dumpxml vm',
    'dominfo vm',
    'domstate vm --reason',
    'domblklist vm',
    'domiflist vm',
    'domjobinfo vm',
    'domjobabort vm',
    'vcpucount vm',
    'suspend vm',
    'domstate vm --reason',
    'shutdown vm',
    'resume vm',
    'resume vm',
    'setvcpus vm 2',
    'setvcpus vm 5',
    'setmem vm 128M',
    'setmaxmem vm 128M',
    `attach-disk vm ${shared}/extra.raw vdb`,
    'domblklist vm',
    'detach-disk vm vdc',
    'metadata vm urn:x --key x --set <mark/>',
    'metadata vm urn:x',
    'metadata vm urn:y',
    'domrename vm other',
    'managedsave vm',
    'domstate vm --reason',
    'undefine vm',
    'start vm',
    'domstate vm --reason',
    `migrate --live --p2p vm ${peerUri}x`,
    `migrate --live --p2p --persistent --undefinesource --unsafe vm ${peerUri}`,
    'domstate vm',
    '2:domstate vm --reason',
    '2:dominfo vm',
    '2:reboot vm',
    '2:destroy vm',
    '2:autostart vm',
    '2:undefine vm',
    `define ${missing}`,
    'start missing',
    'domstate missing --reason',
    'undefine missing',
    `define ${qcow2}`,
    'snapshot-create-as snap s0',
    'snapshot-create-as snap s0',
    'start snap',
    'snapshot-create-as snap s1 --description words',
    'snapshot-list snap --name',
    'snapshot-list snap --tree',
    'snapshot-info snap s1',
    `migrate --live --p2p --unsafe snap ${peerUri}`,
    'snapshot-revert snap s0',
    'domstate snap --reason',
    'undefine snap',
    'snapshot-delete snap s0',
    'snapshot-delete snap s0',
    'undefine snap --snapshots-metadata',
    `create ${raw}`,
    'autostart vm',
    'undefine vm',
    'destroy vm',
    'domstate vm',
    `pool-define-as p dir --target ${folder}/p`,
    'pool-start p',
    'pool-build p',
    'pool-start p',
    'pool-start p',
    'pool-list --all',
    'pool-info p',
    'pool-dumpxml p',
    'pool-autostart p',
    `pool-define-as q dir --target ${folder}/p`,
    'vol-create-as p a.raw 10M --format raw',
    'vol-create-as p a.raw 10M',
    'vol-create-as p b.qcow2 10M --format qcow2 --backing-vol a.raw --backing-vol-format raw',
    'vol-list p --details',
    'vol-dumpxml b.qcow2 p',
    'vol-clone a.raw c.raw p',
    'vol-resize a.raw 20M p',
    'vol-resize a.raw 5M p',
    'vol-info a.raw p',
    'vol-path a.raw p',
    `vol-upload a.raw ${bytes} p`,
    `vol-download a.raw ${join(scratch, 'back')} --pool p --length 10`,
    'vol-delete b.qcow2 p',
    'vol-delete b.qcow2 p',
    'vol-info nothing p',
    'pool-undefine p',
    'pool-refresh p',
    'pool-destroy p',
    'pool-destroy p',
    'vol-list p',
    'pool-delete p',
    'pool-undefine p',
    'pool-info p',
    `net-define ${network}`,
    'net-start n',
    'net-start n',
    'net-info n',
    'net-dumpxml n',
    'net-autostart n',
    'net-destroy n',
    'net-undefine n',
    'net-info n',
    'version',
    'sysinfo'
  ]
}

export async function runScript(hosts: ScriptHosts): Promise<Step[]> {
  const steps: Step[] = []
  for (const line of script(hosts)) {
    const second = line.startsWith('2:')
    const command = second ? line.slice(2) : line
    const { code, out } = await virsh(second ? hosts.second : hosts.first, ...command.split(' '))
    steps.push({ command: general(line, hosts), code, out: general(out, hosts) })
  }
  return steps
}

/** Takes out what differs from machine to machine: places, UUIDs, ids, times, sizes of file systems. */
function general(text: string, { shared, folder, scratch, peerUri }: ScriptHosts): string {
  return (
    text
      .replaceAll(shared, 'SHARED')
      .replaceAll(folder, 'FOLDER')
      .replaceAll(scratch, 'SCRATCH')
      .replaceAll(peerUri, 'PEER')
      .replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'UUID')
      .replaceAll(/ id='\d+'/g, " id='N'")
      .replaceAll(/^(Id: +)\d+/gm, '$1N')
      .replaceAll(/^(CPU time: +).*/gm, '$1T')
      .replaceAll(/(<.time>)[\d.]+/g, '$1T')
      .replaceAll(/^((Capacity|Allocation|Available): +)([\d.]+ [GT]iB|0.00 B)$/gm, '$1SIZE')
      .replaceAll(/(<(capacity|allocation|available) unit='bytes'>)(\d{10,}|0)</g, '$1SIZE<')
      .replaceAll(/^ \d+ +(?=\w)/gm, ' N ')
      .replaceAll(/^( Id +|-+$)/gm, '')
      // Only hosts whose libvirtd manages control groups say where a guest is in them.
      .replaceAll(/ *<resource>\n.*\n *<\/resource>\n/g, '')
      // A real host that runs as root says so of each of its guests.
      .replaceAll(/\nMessages: +tainted: .*/g, '')
  )
}
