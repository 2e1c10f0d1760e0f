// A disc image of a few files in one directory: ISO 9660 (ECMA-119) with Joliet names, which keep their case and their "-".
// The same files make the same bytes. Only what a configuration disc needs: no subdirectories, nothing to boot from.

const sectorBytes = 2048
const systemSectors = 16
/** Of a directory record, before the name. */
const recordBytes = 33
const maxFiles = 32
const maxJolietName = 64
const maxImageBytes = 64 * 1024 * 1024

export type IsoFile = { name: string; bytes: Uint8Array }

/** @throws RangeError for names that Joliet cannot hold or that are there twice, too many files, or too many bytes */
export function isoImage(label: string, files: readonly IsoFile[]): Buffer {
  refuse(label, files)
  const encoded = [primary, joliet].map((names) => namedFiles(names, files))
  const directorySectors = encoded.map((list) => directoryLayout(list).sectors)
  // 16 the descriptors, 19 to 22 the tables of paths, 23 the directories, then the files.
  const roots = [23, 23 + (directorySectors[0] ?? 1)]
  const firstFile = 23 + directorySectors.reduce((sum, sectors) => sum + sectors, 0)
  const extents = new Map<IsoFile, number>()
  let next = firstFile
  for (const file of files) {
    extents.set(file, next)
    next += sectorsOf(file.bytes.length)
  }
  if (next * sectorBytes > maxImageBytes)
    throw new RangeError(`the files need ${next * sectorBytes} bytes, ${maxImageBytes} are possible`)
  const image = Buffer.alloc(next * sectorBytes)
  const sector = (index: number) => image.subarray(index * sectorBytes)
  for (const [index, names] of [primary, joliet].entries()) {
    const root = roots[index] ?? 0
    const sectors = directorySectors[index] ?? 1
    const tables = { little: 19 + 2 * index, big: 20 + 2 * index }
    writeDescriptor(sector(systemSectors + index), names, label, next, root, sectors, tables)
    writePathTable(sector(tables.little), root, 'little')
    writePathTable(sector(tables.big), root, 'big')
    writeDirectory(sector(root), root, sectors, encoded[index] ?? [], extents)
  }
  sector(18).set([255, ...Buffer.from('CD001'), 1])
  for (const [file, extent] of extents) sector(extent).set(file.bytes)
  return image
}

function refuse(label: string, files: readonly IsoFile[]): void {
  if (!/^[A-Za-z0-9_-]{1,16}$/.test(label))
    throw new RangeError(`${JSON.stringify(label)} is no label: 1 to 16 of letters, digits, "_" and "-"`)
  if (files.length > maxFiles) throw new RangeError(`${files.length} files, ${maxFiles} are possible`)
  for (const [index, { name }] of files.entries()) {
    // oxlint-disable-next-line no-control-regex
    if (!/^[^*/:;?\\\u0000-\u001f]+$/.test(name) || name.length > maxJolietName || name === '.' || name === '..')
      throw new RangeError(`${JSON.stringify(name)} is no file name on a disc`)
    if (files.findIndex((other) => other.name === name) !== index)
      throw new RangeError(`${JSON.stringify(name)} is there twice`)
  }
}

type Names = {
  type: 1 | 2
  text: (value: string) => Buffer
  blank: number[]
  nameOf: (name: string, index: number) => Buffer
}

// Joliet's are UCS-2, big end first; the plain ones are only for readers that know no Joliet.
const ucs2 = (value: string): Buffer => Buffer.from(value, 'utf16le').swap16()
const joliet: Names = { type: 2, text: ucs2, blank: [0, 0x20], nameOf: ucs2 }
const primary: Names = {
  type: 1,
  text: (value) => Buffer.from(value, 'latin1'),
  blank: [0x20],
  // 8 letters, of which the last two tell apart what is equal without them.
  nameOf: (name, index) => {
    const letters = name
      .toUpperCase()
      .replaceAll(/[^A-Z0-9_]/g, '_')
      .slice(0, 6)
    return Buffer.from(`${letters}${index.toString().padStart(2, '0')}.;1`, 'latin1')
  }
}

type NamedFile = { id: Buffer; file: IsoFile }

function namedFiles(names: Names, files: readonly IsoFile[]): NamedFile[] {
  const list = files.map((file, index) => ({ id: names.nameOf(file.name, index), file }))
  return list.toSorted((a, b) => Buffer.compare(a.id, b.id))
}

const sectorsOf = (bytes: number): number => Math.ceil(bytes / sectorBytes)
const recordLength = (id: Buffer): number => (recordBytes + id.length + 1) & ~1

/** Where each record begins: none crosses the end of a sector. */
function directoryLayout(list: readonly NamedFile[]): { offsets: number[]; sectors: number } {
  let at = 2 * recordLength(Buffer.alloc(1))
  const offsets = list.map(({ id }) => {
    const length = recordLength(id)
    if ((at % sectorBytes) + length > sectorBytes) at = sectorsOf(at) * sectorBytes
    const offset = at
    at += length
    return offset
  })
  return { offsets, sectors: sectorsOf(at) }
}

function writeDirectory(
  into: Buffer,
  root: number,
  sectors: number,
  list: readonly NamedFile[],
  extents: ReadonlyMap<IsoFile, number>
): void {
  const own = { extent: root, bytes: sectors * sectorBytes, directory: true }
  const self = recordLength(Buffer.alloc(1))
  writeRecord(into, Buffer.from([0]), own)
  writeRecord(into.subarray(self), Buffer.from([1]), own)
  const { offsets } = directoryLayout(list)
  for (const [index, { id, file }] of list.entries()) {
    const entry = { extent: extents.get(file) ?? 0, bytes: file.bytes.length, directory: false }
    writeRecord(into.subarray(offsets[index]), id, entry)
  }
}

function writeRecord(into: Buffer, id: Buffer, entry: { extent: number; bytes: number; directory: boolean }): void {
  into[0] = recordLength(id)
  both32(into, 2, entry.extent)
  both32(into, 10, entry.bytes)
  // 1970-01-01 00:00:00 UTC: the same files make the same bytes.
  into.set([70, 1, 1, 0, 0, 0, 0], 18)
  into[25] = entry.directory ? 2 : 0
  both16(into, 28, 1)
  into[32] = id.length
  id.copy(into, recordBytes)
}

function writePathTable(into: Buffer, root: number, order: 'little' | 'big'): void {
  into[0] = 1
  if (order === 'little') into.writeUInt32LE(root, 2)
  else into.writeUInt32BE(root, 2)
  if (order === 'little') into.writeUInt16LE(1, 6)
  else into.writeUInt16BE(1, 6)
}

const pathTableBytes = 10

function writeDescriptor(
  into: Buffer,
  names: Names,
  label: string,
  sectors: number,
  root: number,
  rootSectors: number,
  tables: { little: number; big: number }
): void {
  const field = (offset: number, length: number, value: string) => {
    for (let at = 0; at < length; at++) into[offset + at] = names.blank[at % names.blank.length] ?? 0x20
    names.text(value).copy(into, offset, 0, length)
  }
  into[0] = names.type
  into.write('CD001', 1, 'latin1')
  into[6] = 1
  field(8, 32, '')
  field(40, 32, label)
  both32(into, 80, sectors)
  // The mark of Joliet's third level.
  if (names.type === 2) into.write('%/E', 88, 'latin1')
  both16(into, 120, 1)
  both16(into, 124, 1)
  both16(into, 128, sectorBytes)
  both32(into, 132, pathTableBytes)
  into.writeUInt32LE(tables.little, 140)
  into.writeUInt32BE(tables.big, 148)
  writeRecord(into.subarray(156), Buffer.from([0]), { extent: root, bytes: rootSectors * sectorBytes, directory: true })
  for (const [offset, length] of [
    [190, 128],
    [318, 128],
    [446, 128],
    [574, 128],
    [702, 37],
    [739, 37],
    [776, 37]
  ] as const)
    field(offset, length, '')
  for (const offset of [813, 830, 847, 864]) into.write('0'.repeat(16), offset, 'latin1')
  into[881] = 1
}

function both16(into: Buffer, offset: number, value: number): void {
  into.writeUInt16LE(value, offset)
  into.writeUInt16BE(value, offset + 2)
}

function both32(into: Buffer, offset: number, value: number): void {
  into.writeUInt32LE(value, offset)
  into.writeUInt32BE(value, offset + 4)
}
