// Guests for tests on real QEMU: 512-byte boot sectors that are up in a tenth of a second, and the XML to run them.
// Two kinds: `idle` sleeps until the ACPI power button is pressed and then switches itself off, as a well-behaved
// system does; `dirty` writes to so many pages without a pause that a live migration over a slow link never converges.
// Not an operating system: nothing answers on a network, and a device that is unplugged is only let go at a reset.

import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'

const loadAddress = 0x7c00
const sectorBytes = 512
const mebibyte = 1024 * 1024

// SeaBIOS puts the ACPI power management registers of both `pc` and `q35` here.
const pmStatus = 0x600
const pmEnable = 0x602
const pmControl = 0x604
const powerButton = 1 << 8
const sleepEnable = 1 << 13 // with sleep type 0, which QEMU takes for S5: power off
const serialPort = 0x3f8

/** The handful of x86 instructions that the guests need, each method one instruction. Jumps are short: ±127 bytes. */
class Assembler {
  readonly bytes: number[] = []
  /** In 32-bit mode an instruction on a 16-bit register carries the operand-size prefix. */
  wide = false

  emit(...bytes: number[]): void {
    for (const byte of bytes) this.bytes.push(byte & 0xff)
  }
  word(value: number): void {
    this.emit(value, value >> 8)
  }
  double(value: number): void {
    this.word(value)
    this.word(value >>> 16)
  }
  /** The address at which the next instruction will be loaded. */
  here(): number {
    return loadAddress + this.bytes.length
  }
  /** Overwrites a word emitted earlier, for addresses that were not known yet. */
  patchWord(address: number, value: number): void {
    this.bytes[address - loadAddress] = value & 0xff
    this.bytes[address - loadAddress + 1] = (value >> 8) & 0xff
  }

  cli = (): void => this.emit(0xfa)
  sti = (): void => this.emit(0xfb)
  hlt = (): void => this.emit(0xf4)
  clearAx = (): void => this.on16(0x31, 0xc0)
  /** ds, es and ss all take the selector that is in ax. */
  setDataSegments = (): void => this.emit(0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0)
  movSp = (value: number): void => this.on16Word(0xbc, value)
  movAx = (value: number): void => this.on16Word(0xb8, value)
  movDx = (value: number): void => this.on16Word(0xba, value)
  movAl = (value: number): void => this.emit(0xb0, value)
  movEdi(value: number): void {
    this.emit(0xbf)
    this.double(value)
  }
  movEcx(value: number): void {
    this.emit(0xb9)
    this.double(value)
  }
  addEdi(value: number): void {
    this.emit(0x81, 0xc7)
    this.double(value)
  }
  incrementAtEdi = (): void => this.emit(0xff, 0x07)
  outDxAx = (): void => this.on16(0xef)
  outDxAl = (): void => this.emit(0xee)
  inAxDx = (): void => this.on16(0xed)
  testAh = (mask: number): void => this.emit(0xf6, 0xc4, mask)
  jumpIfZero = (target: number): void => this.short(0x74, target)
  jump = (target: number): void => this.short(0xeb, target)
  loop = (target: number): void => this.short(0xe2, target)

  private on16(...bytes: number[]): void {
    if (this.wide) this.emit(0x66)
    this.emit(...bytes)
  }
  private on16Word(opcode: number, value: number): void {
    this.on16(opcode)
    this.word(value)
  }
  private short(opcode: number, target: number): void {
    const distance = target - (this.here() + 2)
    if (distance < -128 || distance > 127) throw new RangeError(`a short jump cannot reach ${distance} bytes`)
    this.emit(opcode, distance)
  }
}

function outWord(asm: Assembler, port: number, value: number): void {
  asm.movDx(port)
  asm.movAx(value)
  asm.outDxAx()
}

/** Writes one letter and a line feed to the first serial port: `B` booted, `P` saw the power button. */
function say(asm: Assembler, letter: string): void {
  asm.movDx(serialPort)
  for (const character of `${letter}\n`) {
    asm.movAl(character.charCodeAt(0))
    asm.outDxAl()
  }
}

/** Falls through once the power button was pressed; until then goes back to `again`. */
function unlessPowerButton(asm: Assembler, again: number): void {
  asm.movDx(pmStatus)
  asm.inAxDx()
  asm.testAh(powerButton >> 8)
  asm.jumpIfZero(again)
}

function powerOff(asm: Assembler): void {
  say(asm, 'P')
  outWord(asm, pmControl, sleepEnable)
  const stay = asm.here()
  asm.hlt()
  asm.jump(stay)
}

function begin(asm: Assembler): void {
  asm.cli()
  asm.clearAx()
  asm.setDataSegments()
  asm.movSp(loadAddress)
}

function idleProgram(): Assembler {
  const asm = new Assembler()
  begin(asm)
  outWord(asm, pmStatus, powerButton) // a one clears the bit: a press from before the boot does not count
  outWord(asm, pmEnable, powerButton)
  say(asm, 'B')
  asm.sti()
  const sleep = asm.here()
  asm.hlt() // the timer of the BIOS wakes it 18 times a second
  unlessPowerButton(asm, sleep)
  powerOff(asm)
  return asm
}

/**
 * Counts passes in ebx and tells every 256th as one byte on the serial port, one more than the byte before: who reads those of all
 * hosts sees whether the guest has ever gone on twice from one moment.
 */
function beat(asm: Assembler): void {
  asm.emit(0x43) // inc ebx
  asm.emit(0x84, 0xdb) // test bl,bl
  asm.emit(0x75, 7) // jnz over the rest
  asm.movDx(serialPort)
  asm.emit(0x88, 0xf8) // mov al,bh
  asm.outDxAl()
}

/** A 32-bit loop over `mib` MiB above the second, since real mode reaches only the first. */
function dirtyProgram(mib: number, beats: boolean): Assembler {
  const asm = new Assembler()
  begin(asm)
  asm.emit(0xe4, 0x92, 0x0c, 0x02, 0xe6, 0x92) // in al,0x92; or al,2; out 0x92,al: address line 20 on
  asm.emit(0x0f, 0x01, 0x16) // lgdt [table register]
  const tablePointer = asm.here()
  asm.word(0)
  asm.emit(0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0) // mov eax,cr0; or al,1; mov cr0,eax: protected mode
  asm.emit(0xea) // far jump to the next instruction, with the flat code segment
  const farTarget = asm.here()
  asm.word(0)
  asm.word(0x08)
  asm.patchWord(farTarget, asm.here())
  asm.wide = true
  asm.movAx(0x10)
  asm.setDataSegments()
  outWord(asm, pmEnable, powerButton)
  if (beats) asm.emit(0x31, 0xdb) // xor ebx,ebx
  else say(asm, 'B')
  const again = asm.here()
  asm.movEdi(2 * mebibyte)
  asm.movEcx((mib * mebibyte) / 4096)
  const page = asm.here()
  asm.incrementAtEdi()
  asm.addEdi(4096)
  asm.loop(page)
  if (beats) beat(asm)
  unlessPowerButton(asm, again)
  powerOff(asm)

  while (asm.bytes.length % 8 !== 0) asm.emit(0)
  const table = asm.here()
  asm.emit(0, 0, 0, 0, 0, 0, 0, 0) // the null descriptor
  asm.emit(0xff, 0xff, 0, 0, 0, 0x9a, 0xcf, 0) // 0x08: code, 4 GiB from 0
  asm.emit(0xff, 0xff, 0, 0, 0, 0x92, 0xcf, 0) // 0x10: data, the same
  asm.patchWord(tablePointer, asm.here())
  asm.word(asm.here() - table - 1)
  asm.double(table)
  return asm
}

/** `beats`: says no `B` but bytes that count up, see test/system/beats.ts. */
export type GuestKind = 'idle' | { dirtyMiB: number; beats?: boolean }

/** The boot sector of a guest of `kind`, padded with zeros to `diskMiB` (default 1): a raw disk image. */
export function bootImage(kind: GuestKind = 'idle', diskMiB = 1): Buffer {
  const { bytes } = kind === 'idle' ? idleProgram() : dirtyProgram(kind.dirtyMiB, kind.beats ?? false)
  if (bytes.length > sectorBytes - 2) throw new RangeError(`${bytes.length} bytes of code do not fit a boot sector`)
  const image = Buffer.alloc(diskMiB * mebibyte)
  Buffer.from(bytes).copy(image)
  image.writeUInt16LE(0xaa55, sectorBytes - 2)
  return image
}

export type GuestOptions = {
  name: string
  /** Path of the raw disk image, as the hosts see it. */
  disk: string
  /** Default: a random one. */
  uuid?: string
  /** Default 64. A dirty guest needs at least its `dirtyMiB` + 4. */
  memoryMiB?: number
  /** A file that gets what the guest says on its serial port. Default: none. */
  serialFile?: string
  /** Default `file`. `block` is for disks that are block devices. */
  diskType?: 'file' | 'block'
}

/** Domain XML of a guest under QEMU's own emulator (no /dev/kvm needed). */
export function guestXml(options: GuestOptions): string {
  const { name, disk, uuid = randomUUID(), memoryMiB = 64, serialFile, diskType = 'file' } = options
  // `append`: without it QEMU truncates the file again on the target of each migration.
  const serial = serialFile ? `<serial type='file'><source path='${serialFile}' append='on'/></serial>` : ''
  const source = diskType === 'file' ? `file='${disk}'` : `dev='${disk}'`
  return `<domain type='qemu'>
  <name>${name}</name>
  <uuid>${uuid}</uuid>
  <memory unit='MiB'>${memoryMiB}</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os>
  <!-- A small translation cache: the default takes more memory than the guest. -->
  <features><acpi/><tcg><tb-cache unit='MiB'>32</tb-cache></tcg></features>
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='${diskType}' device='disk'>
      <driver name='qemu' type='raw' cache='none'/><source ${source}/><target dev='vda' bus='virtio'/>
    </disk>
    ${serial}
    <controller type='usb' model='none'/><memballoon model='none'/>
  </devices>
</domain>
`
}

/** Writes the disk image of a guest and returns the XML that runs it. */
export async function prepareGuest(options: GuestOptions & { kind?: GuestKind; diskMiB?: number }): Promise<string> {
  await writeFile(options.disk, bootImage(options.kind, options.diskMiB))
  return guestXml(options)
}
