// Puts the clock of the process that it is loaded into (node --import) wrong by TASKOMATIC_TEST_CLOCK_OFF_MS, as a machine whose clock
// nobody keeps has it. Only Date is: the monotonic clock cannot be set.
const off = Number(process.env['TASKOMATIC_TEST_CLOCK_OFF_MS'] ?? 0)
const RightDate = Date

class WrongDate extends RightDate {
  constructor(...args: unknown[]) {
    if (args.length === 0) super(WrongDate.now())
    else super(...(args as [number]))
  }

  static override now(): number {
    return RightDate.now() + off
  }
}

if (off !== 0) globalThis.Date = WrongDate as DateConstructor
