// Declares a volume to be an image: disks of new VMs are made from it, and nothing writes to it any more.
import { Type, type Static } from 'typebox'
import { resource } from '../model/resource.ts'
import { quote } from '../model/name.ts'
import { action, complete, impossible, nothingToDo, possible, type Probe } from './action.ts'
import { attempt } from './attempt.ts'
import { lineOfText, newName, splitVolume, VolumeRef } from './refs.ts'
import { maxMemoryMiB, maxVcpus } from './vm-create-args.ts'
import { exclusive, shared } from './vm-place.ts'
import { volumeUsers } from './volume-place.ts'

const args = Type.Object(
  {
    name: newName('image', 'Name of the image'),
    volume: { ...VolumeRef, description: 'The volume that it is, STORE/NAME; from now on nothing writes to it' },
    description: Type.Optional(lineOfText('For people', 200)),
    memoryMiB: Type.Optional(
      Type.Integer({ description: 'Memory of a VM of it, where none is asked for', minimum: 1, maximum: maxMemoryMiB })
    ),
    vcpus: Type.Optional(
      Type.Integer({ description: 'CPUs of a VM of it, where none are asked for', minimum: 1, maximum: maxVcpus })
    ),
    firmware: Type.Optional(
      Type.Union([Type.Literal('bios'), Type.Literal('uefi')], {
        description: 'Firmware that it boots with; default bios'
      })
    ),
    bus: Type.Optional(
      Type.Union([Type.Literal('virtio'), Type.Literal('scsi'), Type.Literal('sata'), Type.Literal('ide')], {
        description: 'Bus of the disk made from it; default virtio'
      })
    ),
    cloudInit: Type.Optional(
      Type.Boolean({
        description: 'It has cloud-init: VMs of it get a disc for their first boot; default false',
        default: false
      })
    )
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

const factsOf = ({ volume, description, memoryMiB, vcpus, firmware, bus, cloudInit }: Args) => ({
  ...splitVolume(volume),
  description: description ?? null,
  memoryMiB: memoryMiB ?? null,
  vcpus: vcpus ?? null,
  firmware: firmware ?? null,
  bus: bus ?? null,
  cloudInit: cloudInit ?? false
})

export const imageAdd = action({
  name: 'image.add',
  summary: 'Declare a volume to be an image that new VMs are made from',
  args,
  title: ({ name, volume }) => `Add image ${name}: ${volume}`,
  claims(given) {
    const { store, volume } = splitVolume(given.volume)
    return [
      exclusive(resource.image(given.name)),
      shared(resource.store(store)),
      exclusive(resource.volume(store, volume))
    ]
  },
  check(given, state) {
    const { store, volume } = splitVolume(given.volume)
    const facts = state.volume(store, volume)
    const known = state.image(given.name)
    if (known && isAs(known, factsOf(given))) return nothingToDo(`image ${quote(given.name)} is so already`)
    if (known && (known.store !== store || known.volume !== volume))
      return impossible(
        'image_exists',
        `image ${quote(given.name)} is volume ${quote(`${known.store}/${known.volume}`)}`,
        'choose another name, or remove that image first'
      )
    if (facts?.image && facts.image !== given.name)
      return impossible(
        'volume_is_image',
        `volume ${quote(given.volume)} is image ${quote(facts.image)} already`,
        'use that image'
      )
    const writer = facts?.usedBy
      .map((uuid) => state.vm(uuid))
      .find((vm) => vm?.disks.some((disk) => !disk.readOnly && disk.store === store && disk.volume === volume))
    if (!writer) return possible
    const [user] = volumeUsers(state, store, volume)
    return impossible(
      'volume_in_use',
      `volume ${quote(given.volume)} is a disk of ${user}, which writes to it`,
      'copy it, and make the copy an image: `taskomatic volume clone`'
    )
  },
  effect(given) {
    const facts = factsOf(given)
    return [
      { subject: resource.image(given.name), facts: { name: given.name, ...facts } },
      { subject: resource.volume(facts.store, facts.volume), facts: { image: given.name } }
    ]
  },
  run: (ctx, given) =>
    attempt(
      ctx,
      async (step) => {
        step('write the image down')
        await ctx.observe.setImage(given.name, { ...factsOf(given), addedBy: ctx.task.by })
        return complete({ image: given.name, volume: given.volume })
      },
      { probe }
    ),
  probe,
  undo: ({ name }) => ({ action: 'image.remove', args: { image: name } })
})

const isAs = (known: object, wanted: object): boolean =>
  Object.entries(wanted).every(([key, value]) => (known as Record<string, unknown>)[key] === value)

/** It is a row of our own: writing it again changes nothing. */
async function probe(): Promise<Probe> {
  return { happened: 'no', evidence: null }
}
