// store, pool and volume: where bytes are, hosts' handles on it, and what is in it.
import type { PoolView, StoreView, VolumeView } from '../../api/fleet.ts'
import type { Given, NounSpec, OperandSpec, OptionSpec } from '../command.ts'
import { usage } from '../failure.ts'
import { bytesText, type View } from '../render.ts'
import { printFrom, textOption } from './reading.ts'
import { downloadCommand, uploadCommand } from './volume-bytes.ts'

const storeView: View<StoreView> = {
  plural: 'stores',
  name: (store) => store.name,
  columns: [
    { title: 'NAME', value: (store) => store.name },
    { title: 'TYPE', value: (store) => store.type },
    { title: 'SHARED', value: (store) => (store.shared ? 'yes' : 'no') },
    {
      title: 'POOLS',
      value: (store) =>
        Object.entries(store.pools)
          .map(([host, { pool }]) => `${pool}@${host}`)
          .join(' ')
    }
  ]
}

/** Less than a tenth is free: volumes that grow as they are filled stop guests when nothing is left. */
const isNearlyFull = ({ active, availableBytes, capacityBytes }: PoolView): boolean =>
  active && capacityBytes > 0 && availableBytes < capacityBytes / 10

const poolView: View<PoolView> = {
  plural: 'pools',
  name: (pool) => `${pool.name}@${pool.host}`,
  columns: [
    { title: 'NAME', value: (pool) => pool.name },
    { title: 'HOST', value: (pool) => pool.host },
    {
      title: 'STATE',
      value: (pool) => (pool.active ? 'active' : 'off'),
      tone: (pool) => (pool.active ? 'good' : 'dim')
    },
    { title: 'STORE', value: (pool) => pool.store },
    {
      title: 'FREE',
      value: (pool) => bytesText(pool.availableBytes) + (isNearlyFull(pool) ? ' nearly full' : ''),
      tone: (pool) => (isNearlyFull(pool) ? 'bad' : undefined),
      align: 'right'
    },
    { title: 'SIZE', value: (pool) => bytesText(pool.capacityBytes), align: 'right' },
    { title: 'TYPE', value: (pool) => pool.type, wide: true },
    { title: 'TARGET', value: (pool) => pool.target, wide: true },
    { title: 'AUTOSTART', value: (pool) => (pool.autostart ? 'yes' : 'no'), wide: true }
  ]
}

const volumeView: View<VolumeView> = {
  plural: 'volumes',
  name: (volume) => `${volume.store}/${volume.name}`,
  columns: [
    { title: 'NAME', value: (volume) => `${volume.store}/${volume.name}` },
    { title: 'SIZE', value: (volume) => bytesText(volume.capacityBytes), align: 'right' },
    { title: 'USED', value: (volume) => bytesText(volume.allocationBytes), align: 'right' },
    { title: 'FORMAT', value: (volume) => volume.format },
    { title: 'VMS', value: (volume) => volume.usedBy.length, align: 'right' },
    { title: 'PATH', value: (volume) => volume.path, wide: true },
    { title: 'BACKING', value: (volume) => volume.backing, wide: true },
    { title: 'USED BY', value: (volume) => volume.usedBy.join(' '), wide: true }
  ]
}

const onHost = { flags: '--host <host>', help: 'only there', kind: 'text', names: 'host' } as const
const onStore = { flags: '--store <store>', help: 'only there', kind: 'text', names: 'store' } as const

export const store: NounSpec = {
  noun: 'store',
  summary: 'Stores: where bytes are. A store is local to a host, HOST/POOL, or shared by several',
  commands: [
    { verb: 'list', aliases: ['ls'], summary: 'List stores', run: (cli) => printFrom(cli, '/stores', {}, storeView) },
    {
      verb: 'share',
      summary:
        'Declare that pools on several hosts are one store; proven by a file made through one and found through the others',
      action: 'store.share',
      operands: [
        { name: 'store', help: "the shared store's name", kind: 'text', arg: 'store' },
        { name: 'pools', help: 'POOL@HOST, two or more', kind: 'text', many: true, names: 'pool' }
      ],
      finish: (args, { operands }) => ({ ...args, pools: (operands['pools'] ?? []).map(poolAt) }),
      more: 'Example: taskomatic store share nfs1 data@h1 data@h2'
    },
    {
      verb: 'set',
      summary:
        "Set how much of volumes' sizes counts when room is looked for: by how much a store may be over-committed",
      action: 'store.set',
      operands: [{ name: 'store', help: 'the store', kind: 'text', arg: 'store', names: 'store' }],
      options: [
        {
          flags: '--thin <percent>',
          help: 'of qcow2 volumes; 25 at first',
          kind: 'count',
          arg: 'thinPercent',
          min: 0,
          max: 100
        },
        {
          flags: '--raw <percent>',
          help: 'of raw volumes; 100 at first',
          kind: 'count',
          arg: 'rawPercent',
          min: 0,
          max: 100
        }
      ],
      more: 'Example: taskomatic store set nfs1 --thin 50'
    }
  ]
}

// `pool@host` as two arguments; --host a,b as one task for each.
const pools: OperandSpec = {
  name: 'pool',
  help: 'pools: POOL@HOST',
  kind: 'text',
  arg: 'pool',
  many: true,
  names: 'pool'
}

function poolAt(text: string): { host: string; pool: string } {
  const at = text.indexOf('@')
  if (at < 0) throw usage(`pool ${JSON.stringify(text)} does not say on which host`, `write ${text}@HOST`)
  return { host: text.slice(at + 1), pool: text.slice(0, at) }
}

const hostsOption: OptionSpec = {
  flags: '--host <hosts>',
  help: 'on these hosts, with commas, instead of POOL@HOST',
  kind: 'text',
  names: 'host'
}
const onlyThisHost: OptionSpec = {
  flags: '--only-this-host',
  help: 'although VMs on other hosts use the store: their pools stay',
  kind: 'flag',
  arg: 'onlyThisHost'
}

/** `data@h1`, or `data` with `--host h1,h2`: one task for each host. */
function onHosts(args: Record<string, unknown>, { options }: Given): Record<string, unknown>[] {
  const text = String(args['pool'])
  const at = text.indexOf('@')
  const listed = textOption(options['host'])
    ?.split(',')
    .filter((host) => host !== '')
  if (at >= 0 && listed)
    throw usage(`pool ${JSON.stringify(text)} names its host, and --host others`, 'say it in one place')
  if (at >= 0) return [{ ...args, ...poolAt(text) }]
  if (!listed?.length)
    throw usage(`pool ${JSON.stringify(text)} does not say on which host`, `write ${text}@HOST, or add --host HOST`)
  return [...new Set(listed)].map((host) => ({ ...args, pool: text, host }))
}

function withSource(args: Record<string, unknown>, { options }: Given): Record<string, unknown> {
  const list = (name: string) => textOption(options[name])?.split(',')
  const [username, secret] = [textOption(options['auth']), textOption(options['secret'])]
  if ((username === undefined) !== (secret === undefined))
    throw usage('--auth and --secret go together', 'give both, or neither')
  const source = Object.entries({
    hosts: list('sourceHost'),
    path: textOption(options['sourcePath']),
    devices: list('sourceDevice'),
    name: textOption(options['sourceName']),
    format: textOption(options['sourceFormat']),
    auth: username === undefined ? undefined : { username, secret }
  }).filter(([, value]) => value !== undefined)
  return source.length === 0 ? args : { ...args, source: Object.fromEntries(source) }
}

export const pool: NounSpec = {
  noun: 'pool',
  summary: "Pools: a host's handle on a store",
  commands: [
    {
      verb: 'list',
      aliases: ['ls'],
      summary: 'List pools',
      options: [onHost, onStore],
      run: (cli, { options }) =>
        printFrom(cli, '/pools', { host: textOption(options['host']), store: textOption(options['store']) }, poolView)
    },
    {
      verb: 'create',
      summary: 'Define, build and start pools',
      action: 'pool.create',
      operands: [{ name: 'pool', help: 'new pools: POOL@HOST', kind: 'text', arg: 'pool', many: true }],
      options: [
        hostsOption,
        {
          flags: '--type <type>',
          help: 'dir (default), fs, netfs, logical, iscsi or rbd',
          kind: 'text',
          arg: 'type',
          choices: ['dir', 'fs', 'netfs', 'logical', 'iscsi', 'rbd']
        },
        { flags: '--target <directory>', help: 'where it appears on its host', kind: 'text', arg: 'target' },
        { flags: '--source-host <hosts>', help: 'of netfs, iscsi, rbd: who has the bytes; with commas', kind: 'text' },
        { flags: '--source-path <directory>', help: 'of netfs: what that host exports', kind: 'text' },
        { flags: '--source-device <devices>', help: 'of fs, logical: block devices; of iscsi: the IQN', kind: 'text' },
        { flags: '--source-name <name>', help: 'of logical: the volume group; of rbd: the pool', kind: 'text' },
        { flags: '--source-format <format>', help: 'of fs: ext4, xfs …; of netfs: nfs, cifs', kind: 'text' },
        { flags: '--auth <user>', help: 'of iscsi, rbd', kind: 'text' },
        { flags: '--secret <uuid>', help: "of iscsi, rbd: the user's secret on the host", kind: 'text' },
        {
          flags: '--build',
          help: 'of fs, logical: make the file system or volume group, never over what is there',
          kind: 'flag',
          arg: 'build'
        }
      ],
      finish: (args, given) => onHosts(withSource(args, given), given),
      more: 'Examples: taskomatic pool create data --host h1,h2 --target /srv/data\n  taskomatic pool create nfs1 --host h1,h2 --type netfs --source-host nas --source-path /export/vms --target /srv/nfs1'
    },
    {
      verb: 'start',
      summary: 'Start pools',
      action: 'pool.start',
      operands: [pools],
      options: [hostsOption],
      finish: onHosts
    },
    {
      verb: 'stop',
      summary: 'Stop pools; refused while a VM uses them',
      action: 'pool.stop',
      operands: [pools],
      options: [hostsOption, onlyThisHost],
      finish: onHosts
    },
    {
      verb: 'refresh',
      summary: 'Have hosts look for new volumes',
      action: 'pool.refresh',
      operands: [pools],
      options: [hostsOption],
      finish: onHosts
    },
    {
      verb: 'delete',
      aliases: ['rm', 'undefine'],
      summary: 'Remove pools; what is in the store stays',
      action: 'pool.delete',
      operands: [pools],
      options: [hostsOption, onlyThisHost],
      finish: onHosts
    }
  ]
}

const volumes: OperandSpec = {
  name: 'volume',
  help: 'volumes: STORE/NAME',
  kind: 'text',
  arg: 'volume',
  many: true,
  names: 'volume'
}

function inStore(args: Record<string, unknown>): Record<string, unknown> {
  const { volume, ...rest } = args
  return { ...rest, ...placeOf(String(volume)) }
}

function placeOf(text: string): { store: string; name: string } {
  const at = text.lastIndexOf('/')
  if (at < 0) throw usage(`volume ${JSON.stringify(text)} does not say in which store`, `write STORE/${text}`)
  return { store: text.slice(0, at), name: text.slice(at + 1) }
}

export const volume: NounSpec = {
  noun: 'volume',
  summary: 'Volumes in stores',
  commands: [
    {
      verb: 'list',
      aliases: ['ls'],
      summary: 'List volumes',
      options: [onStore],
      run: (cli, { options }) => printFrom(cli, '/volumes', { store: textOption(options['store']) }, volumeView)
    },
    {
      verb: 'create',
      summary: 'Create volumes: blank, or over another one',
      action: 'volume.create',
      operands: [{ name: 'volume', help: 'new volumes: STORE/NAME', kind: 'text', arg: 'volume', many: true }],
      options: [
        {
          flags: '--size <size>',
          help: 'e.g. 10GiB; with --backing larger than that one, if at all',
          kind: 'mib',
          arg: 'sizeMiB'
        },
        {
          flags: '--backing <volume>',
          help: 'STORE/NAME: keep only what differs from it',
          kind: 'text',
          arg: 'backing',
          names: 'volume'
        },
        {
          flags: '--format <format>',
          help: 'qcow2 (default) or raw',
          kind: 'text',
          arg: 'format',
          choices: ['qcow2', 'raw']
        }
      ],
      finish: inStore
    },
    {
      verb: 'clone',
      aliases: ['copy', 'cp'],
      summary: 'Copy a volume, within its store or to another one of the same host',
      action: 'volume.clone',
      operands: [
        { name: 'volume', help: 'the volume to copy: STORE/NAME', kind: 'text', arg: 'volume', names: 'volume' },
        { name: 'copy', help: 'the new volume: STORE/NAME', kind: 'text' }
      ],
      options: [
        { flags: '--size <size>', help: 'larger than the original, e.g. 20GiB', kind: 'mib', arg: 'sizeMiB' },
        {
          flags: '--format <format>',
          help: 'qcow2 or raw; default: as the original',
          kind: 'text',
          arg: 'format',
          choices: ['qcow2', 'raw']
        }
      ],
      finish: (args, { operands }) => ({ ...args, ...placeOf(operands['copy']?.[0] ?? '') }),
      more: 'Example: taskomatic volume clone nfs1/debian.qcow2 nfs1/web1.qcow2'
    },
    uploadCommand,
    downloadCommand,
    {
      verb: 'resize',
      summary: 'Make volumes larger',
      action: 'volume.resize',
      operands: [volumes],
      options: [
        { flags: '--size <size>', help: 'the new size, e.g. 20GiB', kind: 'mib', arg: 'sizeMiB', required: true }
      ]
    },
    {
      verb: 'delete',
      aliases: ['rm'],
      summary: 'Delete volumes; refused while a VM uses them',
      action: 'volume.delete',
      irreversible: true,
      operands: [volumes]
    }
  ]
}
