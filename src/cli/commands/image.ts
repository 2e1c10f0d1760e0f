// image: volumes that new VMs are made from, with what such VMs are like.
import type { ImageView } from '../../api/fleet.ts'
import type { NounSpec, OperandSpec } from '../command.ts'
import { mibText, printOne, sheet, type View } from '../render.ts'
import { part, printFrom } from './reading.ts'

const view: View<ImageView> = {
  name: (image) => image.name,
  columns: [
    { title: 'NAME', value: (image) => image.name },
    { title: 'VOLUME', value: (image) => `${image.store}/${image.volume}` },
    { title: 'MEMORY', value: (image) => (image.memoryMiB === null ? '' : mibText(image.memoryMiB)), align: 'right' },
    { title: 'VCPUS', value: (image) => image.vcpus, align: 'right' },
    { title: 'CLOUD-INIT', value: (image) => (image.cloudInit ? 'yes' : 'no') },
    { title: 'DESCRIPTION', value: (image) => image.description },
    { title: 'FIRMWARE', value: (image) => image.firmware, wide: true },
    { title: 'BUS', value: (image) => image.bus, wide: true },
    { title: 'ADDED BY', value: (image) => image.addedBy, wide: true }
  ]
}

const imageSheet = (image: ImageView): string =>
  sheet([
    ['Image', image.name],
    ['Volume', `${image.store}/${image.volume}`],
    ['Description', image.description],
    ['Memory', image.memoryMiB === null ? undefined : mibText(image.memoryMiB)],
    ['vCPUs', image.vcpus],
    ['Firmware', image.firmware],
    ['Bus', image.bus],
    ['Cloud-init', image.cloudInit ? 'VMs of it get a disc for their first boot' : 'no'],
    ['Added', image.addedAt],
    ['Added by', image.addedBy]
  ])

const images: OperandSpec = {
  name: 'image',
  help: 'images, by name',
  kind: 'text',
  arg: 'image',
  many: true,
  names: 'image'
}

export const image: NounSpec = {
  noun: 'image',
  summary: 'Images: volumes that new VMs are made from. Nothing writes to a volume while it is an image',
  commands: [
    { verb: 'list', aliases: ['ls'], summary: 'List images', run: (cli) => printFrom(cli, '/images', {}, view) },
    {
      verb: 'show',
      summary: 'Show an image',
      operands: [{ name: 'image', help: 'image, by name', kind: 'text', names: 'image' }],
      async run(cli, { operands }) {
        const found = await cli.client().get<ImageView>(`/images/${part(operands['image']?.[0] ?? '')}`)
        await printOne(cli, found, view.name, () => imageSheet(found))
        return 'done'
      }
    },
    {
      verb: 'add',
      summary: 'Declare a volume to be an image, or change what VMs of it are like',
      action: 'image.add',
      operands: [
        { name: 'name', help: 'name of the image', kind: 'text', arg: 'name' },
        { name: 'volume', help: 'the volume, STORE/NAME', kind: 'text', arg: 'volume', names: 'volume' }
      ],
      options: [
        { flags: '--description <text>', help: 'for people', kind: 'text', arg: 'description' },
        { flags: '--memory <size>', help: 'of a VM of it, where none is asked for', kind: 'mib', arg: 'memoryMiB' },
        { flags: '--vcpus <number>', help: 'the same for CPUs', kind: 'count', arg: 'vcpus', min: 1 },
        {
          flags: '--firmware <kind>',
          help: 'that it boots with',
          kind: 'text',
          arg: 'firmware',
          choices: ['bios', 'uefi']
        },
        {
          flags: '--bus <bus>',
          help: 'of the disk made from it; default virtio',
          kind: 'text',
          arg: 'bus',
          choices: ['virtio', 'scsi', 'sata', 'ide']
        },
        { flags: '--cloud-init', help: 'VMs of it get a cloud-init disc', kind: 'flag', arg: 'cloudInit' }
      ],
      more: 'Example: taskomatic image add debian nfs1/debian-13.qcow2 --memory 2GiB --cloud-init'
    },
    {
      verb: 'remove',
      aliases: ['rm'],
      summary: 'Forget images; their volumes stay',
      action: 'image.remove',
      operands: [images]
    }
  ]
}
