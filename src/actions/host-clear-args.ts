// How a host may be cleared: the schema.
import { Type, type Static } from 'typebox'
import { HostRef, lineOfText } from './refs.ts'

const flag = (description: string) =>
  Type.Optional(Type.Boolean({ description: `${description}; default false`, default: false }))

const defaultClearTimeoutSeconds = 21_600

export const hostClearArgs = Type.Object(
  {
    host: HostRef,
    reason: Type.Optional(lineOfText('Why, for whoever finds the host closed; default that it is being cleared')),
    vms: Type.Optional(
      Type.Union([Type.Literal('migrate'), Type.Literal('shut-down'), Type.Literal('delete')], {
        description:
          'What becomes of its VMs: migrate (default; also the definitions of those that are off), shut-down or delete'
      })
    ),
    pools: Type.Optional(
      Type.Union([Type.Literal('leave'), Type.Literal('stop'), Type.Literal('delete')], {
        description: 'What becomes of its pools; data stays in any case; default leave'
      })
    ),
    onFailure: Type.Optional(
      Type.Union([Type.Literal('leave'), Type.Literal('shut-down')], {
        description: 'What becomes of a running VM that cannot be moved: leave it running (default), or shut-down'
      })
    ),
    autoConverge: flag('Slow guests down that write faster than the network copies'),
    postCopy: flag('Switch over after one pass over the memory: it always ends, but a lost host then loses the VM'),
    copyStorage: flag('Copy disks as well, where the hosts share no store'),
    unsafe: flag('Migrate although libvirt does not know the storage as safe'),
    tls: flag("Encrypt memory streams with the hosts' QEMU certificates"),
    bandwidthMiBps: Type.Optional(
      Type.Integer({ description: 'At most this many MiB a second for each migration', minimum: 1, maximum: 1_000_000 })
    ),
    timeoutSeconds: Type.Optional(
      Type.Integer({
        description: `For each VM: a migration is given up after it, a guest that was asked to shut down is left running; default ${defaultClearTimeoutSeconds}, and 120 for a shutdown`,
        minimum: 1,
        maximum: 604_800
      })
    ),
    force: flag('Switch guests off by force that do not shut down in time, or that are to be deleted while they run'),
    volumes: flag('With vms=delete: delete their disks as well')
  },
  { additionalProperties: false }
)

export type HostClearArgs = Static<typeof hostClearArgs>

/** The options that a clear hands on to each migration. */
export function moveOptions(given: HostClearArgs): Record<string, boolean | number> {
  const { autoConverge, postCopy, copyStorage, unsafe, tls, bandwidthMiBps, timeoutSeconds } = given
  return {
    ...(autoConverge ? { autoConverge } : {}),
    ...(postCopy ? { postCopy } : {}),
    ...(copyStorage ? { copyStorage } : {}),
    ...(unsafe ? { unsafe } : {}),
    ...(tls ? { tls } : {}),
    ...(bandwidthMiBps === undefined ? {} : { bandwidthMiBps }),
    ...(timeoutSeconds === undefined ? {} : { deadlineSeconds: timeoutSeconds })
  }
}
