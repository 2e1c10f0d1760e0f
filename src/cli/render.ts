// Data on standard output: tables for people, the same rows as JSON, JSON lines, YAML or names for programs.
import type { Streams } from './context.ts'

export const formats = ['table', 'wide', 'json', 'jsonl', 'yaml', 'name'] as const
export type Format = (typeof formats)[number]

export type Column<T> = {
  title: string
  value: (row: T) => string | number | null | undefined
  /** Only in `-o wide`. */
  wide?: true
  align?: 'right'
  /** What its text may be coloured by. */
  tone?: (row: T) => Tone | undefined
}

export type Tone = 'good' | 'bad' | 'busy' | 'dim'

export type View<T> = {
  columns: readonly Column<T>[]
  /** `-o name`: what other commands take. */
  name: (row: T) => string
  /** What a list of none has none of, e.g. `VMs`. */
  plural?: string
}

export type Printer = Streams & { format: Format; color: boolean }

/** A list: rows in every format, and of one row a list too. Where there are none people are told so, on standard error. */
export async function printList<T>(printer: Printer, rows: readonly T[], view: View<T>): Promise<void> {
  if (printer.format === 'yaml') return printYaml(printer, rows)
  if (rows.length === 0 && /^(table|wide|name)$/.test(printer.format)) {
    printer.err.write(`no ${view.plural ?? 'entries'}\n`)
    return
  }
  if (await printData(printer, rows, view.name)) return
  printer.out.write(await table(rows, view, printer))
}

/** One thing: as data, or as `text` for people. */
export async function printOne<T>(
  printer: Printer,
  value: T,
  name: (row: T) => string,
  text: () => string | Promise<string>
): Promise<void> {
  const { format, out } = printer
  if (format === 'json') out.write(`${JSON.stringify(value, null, 2)}\n`)
  else if (format === 'yaml') await printYaml(printer, value)
  else if (!(await printData(printer, [value], name))) out.write(await text())
}

async function printYaml({ out }: Printer, value: unknown): Promise<void> {
  const { stringify } = await import('yaml')
  out.write(stringify(value))
}

async function printData<T>({ format, out }: Printer, rows: readonly T[], name: (row: T) => string): Promise<boolean> {
  switch (format) {
    case 'json':
      out.write(`${JSON.stringify(rows, null, 2)}\n`)
      return true
    case 'jsonl':
      for (const row of rows) out.write(`${JSON.stringify(row)}\n`)
      return true
    case 'name':
      for (const row of rows) out.write(`${clean(name(row))}\n`)
      return true
    default:
      return false
  }
}

const nothing = { 'top': '', 'top-mid': '', 'top-left': '', 'top-right': '', 'bottom': '', 'bottom-mid': '', 'bottom-left': '', 'bottom-right': '', 'left': '', 'left-mid': '', 'mid': '', 'mid-mid': '', 'right': '', 'right-mid': '', 'middle': '  ' } // prettier-ignore

async function table<T>(rows: readonly T[], view: View<T>, printer: Printer): Promise<string> {
  const { default: Table } = await import('cli-table3')
  const columns = view.columns.filter((column) => printer.format === 'wide' || !column.wide)
  const grid = new Table({
    head: columns.map(({ title }) => title),
    colAligns: columns.map(({ align }) => align ?? 'left'),
    chars: nothing,
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [], compact: true }
  })
  for (const row of rows) {
    grid.push(
      columns.map((column) =>
        paint(shortened(clean(String(column.value(row) ?? '-'))), column.tone?.(row), printer.color)
      )
    )
  }
  return `${grid
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n')}\n`
}

/** `Key: value` lines, aligned; a value of several lines is indented below its key; what is undefined or null is left out. */
export function sheet(rows: readonly (readonly [string, string | number | boolean | null | undefined])[]): string {
  const shown = rows.filter(([, value]) => value !== undefined && value !== null && value !== '')
  const width = Math.max(0, ...shown.map(([key]) => key.length)) + 2
  return shown
    .map(([key, value]) => {
      const [first = '', ...more] = String(value).split('\n').map(clean)
      return (
        [`${`${key}:`.padEnd(width)}${first}`, ...more.map((line) => `${' '.repeat(width)}${line}`)].join('\n') + '\n'
      )
    })
    .join('')
}

const shortened = (text: string): string => (text.length > 100 ? `${text.slice(0, 99)}…` : text)

/** Names come from hosts and guests: what would move the cursor or colour the terminal is shown, not sent. */
export const clean = (text: string): string =>
  // oxlint-disable-next-line no-control-regex -- control characters are what this is about
  text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, (character) => {
    const code = character.codePointAt(0) ?? 0
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16)}`
  })

const tones: Record<Tone, string> = { good: '32', bad: '31', busy: '33', dim: '2' }
export const paint = (text: string, tone: Tone | undefined, color: boolean): string =>
  tone && color ? `\u001b[${tones[tone]}m${text}\u001b[0m` : text

/** NO_COLOR (https://no-color.org) and a stream that is no terminal both mean none. */
export const wantsColor = (env: Record<string, string | undefined>, out: { isTTY?: boolean }): boolean =>
  out.isTTY === true && !env['NO_COLOR'] && env['TERM'] !== 'dumb'

export function bytesText(bytes: number | null | undefined): string | undefined {
  if (bytes === null || bytes === undefined) return undefined
  const names = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < names.length - 1) {
    value /= 1024
    unit++
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)}${names[unit]}`
}

export const mibText = (mib: number | null | undefined): string | undefined =>
  mib === null || mib === undefined ? undefined : bytesText(mib * 2 ** 20)

/** `12s`, `3m`, `2h`, `5d`: how long ago. */
export function ageText(iso: string | null | undefined, now = Date.now()): string | undefined {
  if (!iso) return undefined
  const seconds = Math.max(0, Math.round((now - Date.parse(iso)) / 1000))
  if (seconds < 120) return `${seconds}s`
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)}h`
  return `${Math.floor(seconds / 86_400)}d`
}
