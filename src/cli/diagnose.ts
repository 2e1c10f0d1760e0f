// What is wrong with a fleet, and what stands in the way of adopting VMs, worked out from what the server shows. Changes nothing.
import type { HostView, PoolView, StoreView, VmView } from '../api/fleet.ts'
import type { TaskSummary } from '../api/task.ts'

export type Finding = {
  /** `error`: data may be lost; `warning`: something does not work; `note`: to know. */
  level: 'error' | 'warning' | 'note'
  about: string
  finding: string
  next: string
}

export type Fleet = {
  hosts: readonly HostView[]
  vms: readonly VmView[]
  stores: readonly StoreView[]
  pools: readonly PoolView[]
  /** Of which nobody can tell whether they happened. */
  uncertain: readonly TaskSummary[]
}

/** A store this full leaves its VMs paused when it is full. */
const NEARLY_FULL = 0.95

const sharedStores = (stores: readonly StoreView[]): ReadonlySet<string> =>
  new Set(stores.filter(({ shared }) => shared).map(({ name }) => name))

const hasSharedDisk = (vm: VmView, shared: ReadonlySet<string>): boolean =>
  vm.disks.some(({ store, readOnly }) => store !== null && !readOnly && shared.has(store))

const onHost = (vm: VmView): string => `${vm.name}@${vm.activeOn ?? vm.home}`

export function diagnose(fleet: Fleet): Finding[] {
  const shared = sharedStores(fleet.stores)
  const found = [
    ...fleet.vms.flatMap((vm) => vmFindings(vm, shared)),
    ...namesTwice(fleet.vms),
    ...fleet.hosts.flatMap(hostFindings),
    ...fleet.pools.flatMap(poolFindings),
    ...fleet.uncertain.map((task) => ({
      level: 'warning' as const,
      about: `task ${task.id}`,
      finding: `nobody can tell whether it happened: ${task.title}`,
      next: `look, then \`taskomatic task verdict ${task.id}\``
    })),
    ...notes(fleet)
  ]
  const order = ['error', 'warning', 'note']
  return found.toSorted((a, b) => order.indexOf(a.level) - order.indexOf(b.level))
}

function vmFindings(vm: VmView, shared: ReadonlySet<string>): Finding[] {
  const about = onHost(vm)
  const found: Finding[] = []
  const elsewhere = Object.entries(vm.elsewhere)
  for (const [host, state] of elsewhere) {
    if (state === 'active')
      found.push({
        level: 'error',
        about,
        finding: `a second copy of it is active on ${host}: both may write to its disk`,
        next: `stop one of them: look at both with virsh first`
      })
    else
      found.push({
        level: 'warning',
        about,
        finding: state === 'defined' ? `its UUID is defined on ${host} too` : `it is not known whether ${host} has it`,
        next:
          state === 'defined' ? `undefine it on ${host} if that is a leftover` : `\`taskomatic host refresh ${host}\``
      })
  }
  if (vm.autostart && hasSharedDisk(vm, shared))
    found.push({
      level: 'error',
      about,
      finding: `${vm.home} starts it by itself when it boots, and its disk is shared: once it has moved that is a second copy`,
      next: `\`taskomatic vm set ${vm.name} autostart=on\` starts it by our own hand instead; \`vm adopt --clear-autostart\` for what is not ours yet`
    })
  if (vm.hasSavedImage && !vm.restorable)
    found.push({
      level: 'warning',
      about,
      finding: 'its saved image was not made here, or is older than its last run: it is not restored',
      next: `\`taskomatic vm start ${vm.name} --discard-saved\``
    })
  if (vm.power === 'crashed' || /error/.test(vm.reason))
    found.push({
      level: 'warning',
      about,
      finding: `it is ${vm.power} (${vm.reason})`,
      next: 'look at its disks and its log on the host'
    })
  return found
}

function namesTwice(vms: readonly VmView[]): Finding[] {
  const byName = Map.groupBy(vms, ({ name }) => name)
  return [...byName].flatMap(([name, same]) =>
    same.length < 2
      ? []
      : [
          {
            level: 'note' as const,
            about: name,
            finding: `${same.length} VMs have this name: ${same.map(onHost).toSorted().join(', ')}`,
            next: 'name the host as well, or rename one: `taskomatic vm rename`'
          }
        ]
  )
}

function hostFindings(host: HostView): Finding[] {
  const found: Finding[] = []
  if (host.connection === 'down')
    found.push({
      level: 'warning',
      about: host.name,
      finding: `it is down: ${host.connectionReason ?? 'no reason is known'}`,
      next: `bring it back, or if it is off: \`taskomatic host confirm-off ${host.name}\``
    })
  if (host.peerUri === null)
    found.push({
      level: 'note',
      about: host.name,
      finding: 'it has no peer URI: nothing migrates there',
      next: `add it again with \`--peer-uri\``
    })
  if (host.cordoned)
    found.push({
      level: 'note',
      about: host.name,
      finding: `it is cordoned: ${host.cordonReason ?? ''}`,
      next: `\`taskomatic host uncordon ${host.name}\` when it may take VMs again`
    })
  return found
}

function poolFindings(pool: PoolView): Finding[] {
  const about = `${pool.name}@${pool.host}`
  if (!pool.active)
    return [{ level: 'note', about, finding: 'the pool is not active', next: `\`taskomatic pool start ${about}\`` }]
  const full = pool.capacityBytes > 0 ? 1 - pool.availableBytes / pool.capacityBytes : 0
  if (full < NEARLY_FULL) return []
  return [
    {
      level: 'warning',
      about,
      finding: `the pool is ${Math.floor(full * 100)} % full: VMs pause when it is full`,
      next: 'delete volumes, or make the store larger'
    }
  ]
}

function notes({ vms, hosts }: Fleet): Finding[] {
  const foreign = vms.filter(({ owner }) => owner === 'foreign').length
  const found: Finding[] = []
  if (foreign > 0)
    found.push({
      level: 'note',
      about: `${foreign} VMs`,
      finding: "they carry another manager's metadata and are read-only here",
      next: '`taskomatic vm adopt --all --dry-run` says what adopting them would meet'
    })
  if (hosts.length > 0)
    found.push({
      level: 'note',
      about: 'libvirt-guests',
      finding: 'it stops and starts VMs when a host shuts down and boots, and cannot be seen through libvirt',
      next: 'see on each host that it is off: `systemctl is-enabled libvirt-guests`'
    })
  return found
}

export type Adoption = {
  vm: VmView
  /** Why it cannot be adopted; null: it can. */
  obstacle: string | null
  /** To know before it is. */
  remarks: string[]
}

/** What adopting these VMs would meet; `fleet` are all VMs. */
export function adoptionReport(
  chosen: readonly VmView[],
  fleet: { vms: readonly VmView[]; stores: readonly StoreView[] }
): Adoption[] {
  const shared = sharedStores(fleet.stores)
  const names = Map.groupBy(fleet.vms, ({ name }) => name)
  return chosen.map((vm) => {
    const twins = Object.entries(vm.elsewhere).map(([host, state]) => `${state} on ${host}`)
    const namesakes = (names.get(vm.name) ?? []).filter(({ uuid }) => uuid !== vm.uuid)
    const obstacle =
      vm.owner === 'ours' ? 'ours already' : twins.length > 0 ? `its UUID is ${twins.join(', ')} too` : null
    const remarks = [
      ...(namesakes.length > 0 ? [`its name is that of ${namesakes.map(onHost).toSorted().join(', ')} too`] : []),
      ...(vm.autostart && hasSharedDisk(vm, shared)
        ? ['its host starts it at boot although its disk is shared: `--clear-autostart`']
        : []),
      ...(vm.hasSavedImage ? ['it has a saved image, which is not restored'] : []),
      ...vm.disks
        .filter(({ store, source }) => source !== null && store === null)
        .map(({ target, source }) => `disk ${target} (${source}) is in no pool`)
    ]
    return { vm, obstacle, remarks }
  })
}
