// How a VM may be moved: the schema.
import { Type, type Static } from 'typebox'
import { HostRef, VmRef } from './refs.ts'

export const defaultDeadlineSeconds = 21_600
const maxDeadlineSeconds = 604_800

const flag = (description: string) =>
  Type.Optional(Type.Boolean({ description: `${description}; default false`, default: false }))

export const vmMigrateArgs = Type.Object(
  {
    vm: VmRef,
    to: Type.Optional({ ...HostRef, description: 'Host to move it to; default: placed when the task runs' }),
    offline: flag('Move the definition of a VM that is off; its disks must be in stores that both hosts have'),
    managed: flag(
      'Carry it through from here, phase by phase, not by the hosts among themselves; disks that QEMU cannot lock always are'
    ),
    copyStorage: flag('Copy its disks as well, where the hosts share no store'),
    postCopy: flag(
      'Switch over after one pass over the memory and fetch the rest afterwards: it always ends, but a lost host then loses the VM'
    ),
    autoConverge: flag('Slow the guest down if it writes faster than the network copies'),
    unsafe: flag('Move it although libvirt does not know the storage as safe, e.g. a directory that both hosts have'),
    tls: flag("Encrypt the memory stream with the hosts' QEMU certificates"),
    bandwidthMiBps: Type.Optional(
      Type.Integer({
        description: "At most this many MiB a second; default the host's own limit",
        minimum: 1,
        maximum: 1_000_000
      })
    ),
    deadlineSeconds: Type.Optional(
      Type.Integer({
        description: `Give up after this many seconds, with the VM staying where it is; default ${defaultDeadlineSeconds}`,
        minimum: 1,
        maximum: maxDeadlineSeconds,
        default: defaultDeadlineSeconds
      })
    )
  },
  { additionalProperties: false }
)

export type VmMigrateArgs = Static<typeof vmMigrateArgs>
