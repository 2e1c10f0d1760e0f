// What a new VM takes over from its image, and why nothing writes to a volume that is one.
import type { FleetState } from '../inventory/fleet-state.ts'
import { quote } from '../model/name.ts'
import { impossible, type Verdict } from './action.ts'
import { newName } from './refs.ts'
import type { VmCreateArgs } from './vm-create-args.ts'

export const ImageName = newName('image', 'Image, by name')

type Disk = NonNullable<VmCreateArgs['disks']>[number]

/** The request with what it leaves to the image said in it: later the image may be another, or gone. */
export function fillInImage(args: VmCreateArgs, state: FleetState): VmCreateArgs {
  const image = args.image === undefined ? undefined : state.image(args.image)
  if (!image) return args
  const [first, ...others] = args.disks ?? []
  const memoryMiB = args.memoryMiB ?? image.memoryMiB ?? undefined
  const vcpus = args.vcpus ?? image.vcpus ?? undefined
  const firmware = args.firmware ?? image.firmware ?? undefined
  const cloudInit = args.cloudInit ?? (image.cloudInit ? {} : undefined)
  const isFilled = first !== undefined && (first.from !== undefined || first.volume !== undefined)
  const disk: Disk = {
    ...first,
    store: first?.store ?? image.store,
    from: `${image.store}/${image.volume}`,
    ...(first?.bus || !isBus(image.bus) ? {} : { bus: image.bus })
  }
  return {
    ...args,
    // A first disk that says what it is leaves nothing to the image: the check says so.
    disks: isFilled ? [first, ...others] : [disk, ...others],
    ...(memoryMiB === undefined ? {} : { memoryMiB }),
    ...(vcpus === undefined ? {} : { vcpus }),
    ...(firmware === undefined ? {} : { firmware }),
    ...(cloudInit === undefined ? {} : { cloudInit })
  }
}

const isBus = (bus: string | null): bus is NonNullable<Disk['bus']> =>
  bus === 'virtio' || bus === 'scsi' || bus === 'sata' || bus === 'ide'

/** Only as it is asked for: what was taken over from the image stays. */
export function refuseImage({ image: name, disks }: VmCreateArgs, state: FleetState): Verdict | undefined {
  if (name === undefined || state.phase === 'starting') return undefined
  const image = state.image(name)
  if (!image) return impossible('image_not_found', `there is no image ${quote(name)}`, 'see `taskomatic image list`')
  if (disks?.[0]?.from === `${image.store}/${image.volume}`) return undefined
  return impossible(
    'bad_disk',
    `disk 0 is made from image ${quote(name)}, so that it says itself what it is of would be two things`,
    'leave `from=` and `volume=` out of the first disk'
  )
}

/** Whatever would write to it, resize it or delete it. */
export function refuseChangeOfImage(state: FleetState, store: string, volume: string): Verdict | undefined {
  const image = state.volume(store, volume)?.image
  if (!image) return undefined
  return impossible(
    'volume_is_image',
    `volume ${quote(`${store}/${volume}`)} is image ${quote(image)}: nothing writes to it`,
    `copy it, or \`taskomatic image remove ${image}\` first`
  )
}
