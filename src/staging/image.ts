// What the first bytes of a disk image say of it. A host reads formats of its own accord: an image that names another file would
// show that file of the host to a guest, so only such are taken as name none.
import { StagingError } from './error.ts'

export type ImageFormat = 'raw' | 'qcow2'

/** As many bytes as `readImage` wants to see; fewer only of a smaller image. */
export const headBytes = 4096

const incompatibleExternalData = 1n << 2n
const incompatibleDirty = 3n

/** Formats that a host would recognise by their first bytes, and that can name other files or are not read here. */
const foreign: readonly { name: string; at: number; bytes: string }[] = [
  { name: 'vmdk', at: 0, bytes: 'KDMV' },
  { name: 'vmdk', at: 0, bytes: 'COWD' },
  { name: 'vmdk', at: 0, bytes: '# Disk DescriptorFile' },
  { name: 'vhdx', at: 0, bytes: 'vhdxfile' },
  { name: 'vhd', at: 0, bytes: 'conectix' },
  { name: 'qed', at: 0, bytes: 'QED\0' },
  { name: 'cow', at: 0, bytes: 'OOOM' },
  { name: 'vdi', at: 64, bytes: '\x7f\x10\xda\xbe' },
  { name: 'luks', at: 0, bytes: 'LUKS\xba\xbe' },
  { name: 'parallels', at: 0, bytes: 'WithoutFreeSpace' },
  { name: 'parallels', at: 0, bytes: 'WithouFreSpacExt' }
]

/**
 * @param bytes of the whole image
 * @returns the format, and the size of the disk that a guest sees
 * @throws StagingError `bad_image`
 */
export function readImage(head: Buffer, bytes: number): { format: ImageFormat; capacityBytes: number } {
  if (head.length < 4 || head.toString('latin1', 0, 4) !== 'QFI\xfb') {
    const other = foreign.find(({ at, bytes: mark }) => head.toString('latin1', at, at + mark.length) === mark)
    if (other)
      throw new StagingError('bad_image', `the image is ${other.name}, which is not taken: convert it to qcow2 or raw`)
    return { format: 'raw', capacityBytes: bytes }
  }
  if (head.length < 104) throw new StagingError('bad_image', 'the qcow2 image ends within its header')
  const version = head.readUInt32BE(4)
  if (version !== 2 && version !== 3)
    throw new StagingError('bad_image', `the qcow2 image has version ${version}: only 2 and 3 are taken`)
  if (head.readBigUInt64BE(8) !== 0n)
    throw new StagingError('bad_image', 'the qcow2 image lies over another file: flatten it first (`qemu-img convert`)')
  if (head.readUInt32BE(32) !== 0)
    throw new StagingError('bad_image', 'the qcow2 image is encrypted: its key would not be known')
  const features = version === 3 ? head.readBigUInt64BE(72) : 0n
  if ((features & incompatibleExternalData) !== 0n)
    throw new StagingError('bad_image', 'the qcow2 image keeps its data in another file: convert it first')
  if ((features & incompatibleDirty) !== 0n)
    throw new StagingError('bad_image', 'the qcow2 image was not closed cleanly: `qemu-img check -r all` it first')
  const capacity = head.readBigUInt64BE(24)
  if (capacity > BigInt(Number.MAX_SAFE_INTEGER))
    throw new StagingError('bad_image', `the qcow2 image claims to be a disk of ${capacity} bytes`)
  return { format: 'qcow2', capacityBytes: Number(capacity) }
}
