// Disks of a running guest that grow, move, or take their overlays in: block jobs, which run while the guest does.

import {
  BlockJobStatus,
  DomainBlockCommitFlags,
  DomainBlockCopyFlags,
  DomainBlockJobAbortFlags,
  DomainBlockJobType,
  DomainState
} from '../libvirt/constants.gen.ts'
import type { Handlers } from './call.ts'
import { closeDisks, openDisks, setWriting } from './disks.ts'
import type { BlockJob, SimDomain } from './domain.ts'
import { asJob, requireActive } from './domain-rules.ts'
import { type DomainDef, type DomainDisk, editDefinition } from './domain-xml.ts'
import type { SimHost } from './host.ts'
import { notValid, refuse } from './refusal.ts'
import type { SimFile } from './store.ts'
import { elements, find, node, parseXml, putChild, textAt } from './xml.ts'

type Found = { disk: DomainDisk; source: string; file: SimFile }

function diskOf(host: SimHost, domain: SimDomain, path: string): Found {
  requireActive(domain)
  const disk = domain.current.disks.find((other) => other.target === path || other.source === path)
  const file = disk?.source == null ? undefined : host.file(disk.source)
  if (!disk || disk.source === null || !file) throw refuse('INVALID_ARG', 'QEMU', `disk '${path}' not found in domain`)
  return { disk, source: disk.source, file }
}

function tell(host: SimHost, domain: SimDomain, { target, source }: DomainDisk, type: number, status: number): void {
  host.emit('DOMAIN_EVENT_CALLBACK_BLOCK_JOB', domain.uuid, { dom: domain.ref, path: source ?? '', type, status })
  host.emit('DOMAIN_EVENT_BLOCK_JOB_2', domain.uuid, { dom: domain.ref, dst: target, type, status })
}

/** Begins a job of `bytes`; `whole` runs at its end. A job that `waits` is then ready, until it is pivoted or ended. */
function begin(host: SimHost, domain: SimDomain, found: Found, type: number, waits: boolean, whole: () => void): void {
  const { disk, file } = found
  if (domain.blockJobs.has(disk.target))
    throw refuse('BLOCK_COPY_ACTIVE', 'QEMU', `disk '${disk.target}' already in active block job`)
  const ms = (host.settings.copyMsPerGiB * Number(file.capacityBytes)) / 1024 ** 3
  const job: BlockJob = { type, total: file.capacityBytes, startedAt: Date.now(), ms, ready: false, timer: null, whole }
  domain.blockJobs.set(disk.target, job)
  job.timer = host.after(ms, () => {
    if (domain.blockJobs.get(disk.target) !== job) return
    job.ready = true
    if (waits) return tell(host, domain, disk, type, BlockJobStatus.READY)
    domain.blockJobs.delete(disk.target)
    whole()
    tell(host, domain, disk, type, BlockJobStatus.COMPLETED)
  })
}

/** The guest uses another file for a disk from now on. */
function repoint(host: SimHost, domain: SimDomain, target: string, path: string, format: string): void {
  const edit = (def: DomainDef): DomainDef =>
    editDefinition(def, (tree) => {
      const disk = elements(find(tree, 'devices'), 'disk').find(
        (other) => find(other, 'target')?.attrs['dev'] === target
      )
      if (!disk) return
      const kind = path.startsWith('/dev/') ? 'dev' : 'file'
      disk.attrs['type'] = kind === 'dev' ? 'block' : 'file'
      putChild(disk, node('source', { [kind]: path }))
      putChild(disk, node('driver', { ...find(disk, 'driver')?.attrs, type: format }))
    })
  if (!domain.live) return
  closeDisks(host, domain)
  domain.live = edit(domain.live)
  openDisks(host, domain, domain.live)
  setWriting(host, domain, domain.state === DomainState.RUNNING)
  if (domain.persistent) domain.persistent = edit(domain.persistent)
  host.note('device', domain, { detail: `${target} is now ${path}` })
}

function copy(host: SimHost, domain: SimDomain, path: string, xml: string, flags: number): void {
  const found = diskOf(host, domain, path)
  const { REUSE_EXT, SHALLOW, TRANSIENT_JOB } = DomainBlockCopyFlags
  if (domain.persistent && !(flags & TRANSIENT_JOB)) throw notValid('domain is not transient')
  const disk = parseXml(xml, 'disk')
  const source = find(disk, 'source')
  const to = source?.attrs['file'] ?? source?.attrs['dev'] ?? textAt(disk, 'source')
  if (to === null) throw refuse('XML_ERROR', 'DOMAIN', 'missing destination of the copy')
  const format = find(disk, 'driver')?.attrs['type'] ?? found.file.format
  const place = host.locate(to)
  const exists = place.store.files.has(place.inner)
  if (flags & REUSE_EXT && !exists)
    throw refuse(
      'SYSTEM_ERROR',
      'QEMU',
      `missing destination file for disk ${found.disk.target}: ${to}: No such file or directory`
    )
  if (!(flags & REUSE_EXT) && exists && place.store.kind === 'file')
    throw refuse(
      'INVALID_ARG',
      'QEMU',
      `external destination file for disk ${found.disk.target} already exists and is not a block device: ${to}`
    )
  const backing = flags & SHALLOW ? found.file.backing : null
  const { capacityBytes, allocationBytes, content } = found.file
  const made = place.store.create(place.inner, {
    format,
    capacityBytes,
    allocationBytes,
    backing,
    content,
    partial: true
  })
  begin(host, domain, found, DomainBlockJobType.COPY, true, () => {
    made.partial = false
    repoint(host, domain, found.disk.target, to, format)
  })
}

function commit(host: SimHost, domain: SimDomain, path: string, base: string | null, flags: number): void {
  const found = diskOf(host, domain, path)
  const below = found.file.backing
  if (!below) throw refuse('INVALID_ARG', 'QEMU', `top '${found.source}' in chain for '${path}' has no backing file`)
  if (!(flags & DomainBlockCommitFlags.ACTIVE))
    throw refuse('INVALID_ARG', 'QEMU', `commit of '${path}' active layer requires active flag`)
  let into = below
  while (base === null ? !(flags & DomainBlockCommitFlags.SHALLOW) : into.path !== base) {
    const next = host.file(into.path)?.backing
    if (!next) break
    into = next
  }
  begin(host, domain, found, DomainBlockJobType.ACTIVE_COMMIT, true, () => {
    repoint(host, domain, found.disk.target, into.path, into.format)
    if (!(flags & DomainBlockCommitFlags.DELETE)) return
    const { store, inner } = host.locate(found.source)
    store.files.delete(inner)
  })
}

function abort(host: SimHost, domain: SimDomain, path: string, flags: number): void {
  const { disk } = diskOf(host, domain, path)
  const job = domain.blockJobs.get(disk.target)
  if (!job) throw notValid(`disk ${disk.target} does not have an active block job`)
  const pivot = (flags & DomainBlockJobAbortFlags.PIVOT) !== 0
  if (pivot && !job.ready) throw refuse('BLOCK_COPY_ACTIVE', 'QEMU', `disk '${disk.target}' not ready for pivot yet`)
  domain.blockJobs.delete(disk.target)
  host.cancel(job.timer)
  if (pivot) job.whole()
  tell(host, domain, disk, job.type, pivot ? BlockJobStatus.COMPLETED : BlockJobStatus.CANCELED)
}

export const blockCalls: Handlers = {
  DOMAIN_BLOCK_RESIZE: async ({ dom, disk: path, size, flags }, host) => {
    const domain = host.domain(dom)
    await asJob(host, domain, 'modify', 'DomainBlockResize', () => {
      const { file, disk } = diskOf(host, domain, path)
      file.capacityBytes = flags & 1 ? size : size * 1024n
      host.note(
        'volume_resized',
        { uuid: disk.source ?? '', name: disk.target },
        { detail: String(file.capacityBytes) }
      )
    })
    return {}
  },
  DOMAIN_BLOCK_COPY: async ({ dom, path, destxml, flags }, host) => {
    const domain = host.domain(dom)
    await asJob(host, domain, 'modify', 'DomainBlockCopy', () => copy(host, domain, path, destxml, flags))
    return {}
  },
  DOMAIN_BLOCK_COMMIT: async ({ dom, disk, base, flags }, host) => {
    const domain = host.domain(dom)
    await asJob(host, domain, 'modify', 'DomainBlockCommit', () => commit(host, domain, disk, base, flags))
    return {}
  },
  DOMAIN_BLOCK_PULL: async ({ dom, path }, host) => {
    const domain = host.domain(dom)
    await asJob(host, domain, 'modify', 'DomainBlockPull', () => {
      const found = diskOf(host, domain, path)
      begin(host, domain, found, DomainBlockJobType.PULL, false, () => {
        found.file.backing = null
      })
    })
    return {}
  },
  DOMAIN_BLOCK_JOB_ABORT: async ({ dom, path, flags }, host) => {
    const domain = host.domain(dom)
    await asJob(host, domain, 'modify', 'DomainBlockJobAbort', () => abort(host, domain, path, flags))
    return {}
  },
  DOMAIN_GET_BLOCK_JOB_INFO: ({ dom, path }, host) => {
    const domain = host.domain(dom)
    const job = domain.blockJobs.get(diskOf(host, domain, path).disk.target)
    if (!job) return { found: 0, type: 0, bandwidth: 0n, cur: 0n, end: 0n }
    const share = job.ready || job.ms === 0 ? 1 : Math.min(1, (Date.now() - job.startedAt) / job.ms)
    return {
      found: 1,
      type: job.type,
      bandwidth: 0n,
      cur: BigInt(Math.floor(Number(job.total) * share)),
      end: job.total
    }
  },
  DOMAIN_BLOCK_JOB_SET_SPEED: ({ dom, path }, host) => (diskOf(host, host.domain(dom), path), {})
}
