// What can be asked for when a VM is created: the schema, with the bounds that keep a mistake small.
import { Type, type Static } from 'typebox'
import { cloudInitArgs } from './cloud-init.ts'
import { HostRef, newName, StoreRef, VolumeRef } from './refs.ts'

export const maxMemoryMiB = 16_777_216 // 16 TiB
export const maxVcpus = 1024
const maxVolumeMiB = 1_073_741_824 // 1 PiB
const maxDisks = 24
const maxNics = 16
const maxXmlCharacters = 200_000

export const volumeSizeMiB = (description: string) => Type.Integer({ description, minimum: 1, maximum: maxVolumeMiB })

const formats = Type.Union([Type.Literal('qcow2'), Type.Literal('raw')], {
  description: 'How the bytes are kept; default qcow2'
})

const bus = Type.Union([Type.Literal('virtio'), Type.Literal('scsi'), Type.Literal('sata'), Type.Literal('ide')], {
  description: 'Bus that the guest sees the disk on; default virtio, and sata for a drive'
})

/** Of a disk that is to be: a new, a copied or an existing volume. */
export const diskFields = {
  store: Type.Optional(StoreRef),
  name: Type.Optional(newName('volume', 'Name of the new volume; default NAME.FORMAT, then NAME-1.FORMAT …')),
  sizeMiB: Type.Optional(volumeSizeMiB('Size of the new volume in MiB; a copy may only grow')),
  format: Type.Optional(formats),
  from: Type.Optional({
    ...VolumeRef,
    description: 'Volume to copy, STORE/NAME; it must not be in use by a running VM'
  }),
  linked: Type.Optional(
    Type.Boolean({
      description: 'Lay it over `from` instead of copying that, which then cannot change any more; default false',
      default: false
    })
  ),
  volume: Type.Optional({ ...VolumeRef, description: 'Existing volume to use as it is, STORE/NAME' }),
  cdrom: Type.Optional(
    Type.Boolean({ description: 'The existing volume goes into a drive, read-only; default false', default: false })
  ),
  bus: Type.Optional(bus)
}

const disk = Type.Object(diskFields, {
  additionalProperties: false,
  description: 'A new, copied (`from`) or existing (`volume`) disk'
})

/** Of a card that is to be. */
export const nicFields = {
  network: Type.Optional(newName('network', "Network of the VM's host")),
  bridge: Type.Optional(
    Type.String({
      description: "Bridge of the VM's host",
      minLength: 1,
      maxLength: 15,
      pattern: '^[A-Za-z0-9][A-Za-z0-9._-]*$',
      'x-rule': 'made of letters, digits, ".", "_" and "-", beginning with a letter or digit'
    })
  ),
  model: Type.Optional(
    Type.Union([Type.Literal('virtio'), Type.Literal('e1000'), Type.Literal('e1000e'), Type.Literal('rtl8139')], {
      description: 'Card that the guest sees; default virtio'
    })
  ),
  mac: Type.Optional(
    Type.String({
      description: 'MAC address; default a new one',
      maxLength: 17,
      pattern: '^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$',
      'x-rule': 'the MAC address of one card, like 52:54:00:12:34:56, in lower case'
    })
  )
}

const nic = Type.Object(nicFields, {
  additionalProperties: false,
  description: 'A card on a `network` or on a `bridge`'
})

export const vmCreateArgs = Type.Object(
  {
    name: newName('vm', 'Name of the VM, unlike that of any other'),
    memoryMiB: Type.Optional(
      Type.Integer({ description: 'Memory in MiB; needed unless `xml` is given', minimum: 1, maximum: maxMemoryMiB })
    ),
    vcpus: Type.Optional(Type.Integer({ description: 'Virtual CPUs; default 1', minimum: 1, maximum: maxVcpus })),
    disks: Type.Optional(
      Type.Array(disk, { description: 'Disks, in the order that the guest sees; default none', maxItems: maxDisks })
    ),
    nics: Type.Optional(Type.Array(nic, { description: 'Network cards; default none', maxItems: maxNics })),
    firmware: Type.Optional(
      Type.Union([Type.Literal('bios'), Type.Literal('uefi')], { description: 'Firmware; default bios' })
    ),
    graphics: Type.Optional(
      Type.Union([Type.Literal('none'), Type.Literal('vnc')], { description: 'Display; default none' })
    ),
    image: Type.Optional(newName('image', 'Image that the first disk is made from; it says what else is left open')),
    cloudInit: Type.Optional(cloudInitArgs),
    host: Type.Optional({ ...HostRef, description: 'Host to make it on; default: placed when the task runs' }),
    xml: Type.Optional(
      Type.String({
        description:
          "The whole definition as libvirt's domain XML, instead of the fields above but `name`; needs `host`",
        minLength: 1,
        maxLength: maxXmlCharacters
      })
    ),
    uuid: Type.Optional(
      Type.String({
        description: 'UUID of the VM; default a new one',
        maxLength: 36,
        pattern: '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$',
        'x-rule': 'a UUID, like 123e4567-e89b-42d3-a456-426614174000'
      })
    )
  },
  { additionalProperties: false }
)

export type VmCreateArgs = Static<typeof vmCreateArgs>
export type DiskArgs = Static<typeof disk>
