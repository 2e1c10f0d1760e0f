// Pools of every type that we make, as XML. What each type needs is said in `poolProblem`; whether the host agrees, its own parser.
import { attributes, escapeXml } from './xml.ts'

export type PoolType = 'dir' | 'fs' | 'netfs' | 'logical' | 'iscsi' | 'rbd'

export type PoolSource = {
  /** Names or addresses, with `:port` where it is not the usual one. rbd may have several. */
  hosts?: string[]
  /** The directory that the host exports. */
  path?: string
  /** A block device; of iscsi the target's IQN. Of logical the devices that a new volume group is made of. */
  devices?: string[]
  /** The volume group, or the pool of the cluster. */
  name?: string
  /** Of a file system: ext4, xfs …; of netfs: nfs, cifs, glusterfs. */
  format?: string
  auth?: { username: string; secret: string }
}

export type PoolSpec = {
  name: string
  type: PoolType
  target: string | null
  source?: PoolSource
  /** Make a file system, or a volume group, where there is nothing yet. A directory is made in any case. */
  build?: boolean
}

type Field = 'target' | 'hosts' | 'path' | 'devices' | 'name'
const needs: Record<PoolType, { needed: Field[]; allowed: (Field | 'format' | 'auth')[] }> = {
  dir: { needed: ['target'], allowed: ['target'] },
  fs: { needed: ['target', 'devices'], allowed: ['target', 'devices', 'format'] },
  netfs: { needed: ['target', 'hosts', 'path'], allowed: ['target', 'hosts', 'path', 'format'] },
  logical: { needed: ['name'], allowed: ['name', 'devices', 'target', 'format'] },
  iscsi: { needed: ['hosts', 'devices'], allowed: ['hosts', 'devices', 'target', 'auth'] },
  rbd: { needed: ['hosts', 'name'], allowed: ['hosts', 'name', 'auth'] }
}

/** What is missing, or says nothing, for a pool of that type; undefined when all is well. */
export function poolProblem({ type, target, source = {}, build }: PoolSpec): string | undefined {
  const given = new Set<string>([
    ...(target === null ? [] : ['target']),
    ...Object.entries(source).flatMap(([key, value]) => (value === undefined ? [] : [key]))
  ])
  const missing = needs[type].needed.find((field) => !given.has(field))
  if (missing) return `a pool of type ${type} needs ${wordOf(missing)}`
  const idle = [...given].find((field) => !(needs[type].allowed as string[]).includes(field))
  if (idle) return `${wordOf(idle)} says nothing about a pool of type ${type}`
  const one = (['hosts', 'devices'] as const).find(
    (field) => (source[field]?.length ?? 0) > 1 && !(type === 'rbd' && field === 'hosts') && type !== 'logical'
  )
  if (one) return `a pool of type ${type} has one of ${wordOf(one)}`
  if (build && type === 'logical' && !source.devices?.length)
    return 'a volume group is made of devices: name them, or leave out "build"'
  if (build && type !== 'logical' && type !== 'fs') return `there is nothing to build for a pool of type ${type}`
  return undefined
}

const wordOf = (field: string): string => (field === 'target' ? '"target"' : `"source" with "${field}"`)

/** Where libvirt puts what it is not told where to put. */
const usualTarget: Partial<Record<PoolType, (source: PoolSource) => string>> = {
  logical: ({ name }) => `/dev/${name ?? ''}`,
  iscsi: () => '/dev/disk/by-path'
}

export const targetOf = ({ type, target, source }: PoolSpec): string | null =>
  target ?? usualTarget[type]?.(source ?? {}) ?? null

export function poolXml(spec: PoolSpec): string {
  const { name, type, source = {} } = spec
  const target = targetOf(spec)
  const inner = [
    ...(source.hosts ?? []).map(hostXml),
    ...(source.path === undefined ? [] : [`<dir${attributes({ path: source.path })}/>`]),
    ...(source.devices ?? []).map((path) => `<device${attributes({ path })}/>`),
    ...(source.auth ? [authXml(type, source.auth)] : []),
    ...(source.name === undefined ? [] : [`<name>${escapeXml(source.name)}</name>`]),
    ...(source.format === undefined && type !== 'logical'
      ? []
      : [`<format${attributes({ type: source.format ?? 'lvm2' })}/>`])
  ].join('')
  return (
    `<pool${attributes({ type })}><name>${escapeXml(name)}</name>` +
    (inner === '' ? '' : `<source>${inner}</source>`) +
    (target === null ? '' : `<target><path>${escapeXml(target)}</path></target>`) +
    '</pool>'
  )
}

function hostXml(text: string): string {
  const port = /:(\d{1,5})$/.exec(text)
  const bare = port && !/^[^[]*:[^\]]*:/.test(text) ? text.slice(0, port.index) : text
  return `<host${attributes({ name: bare.replace(/^\[|\]$/g, ''), port: bare === text ? null : port?.[1] })}/>`
}

const authXml = (type: PoolType, { username, secret }: { username: string; secret: string }): string =>
  `<auth${attributes({ type: type === 'rbd' ? 'ceph' : 'chap', username })}><secret${attributes({ uuid: secret })}/></auth>`
