// What a dry run says of each thing that a complex task would deal with, in aligned lines: `web1  running  migrates to h2`.
import { clean } from './render.ts'

type Row = Record<string, unknown>

const words: Readonly<Record<string, string>> = {
  migrate: 'migrates to',
  move: 'its definition moves to',
  'shut down': 'is shut down',
  delete: 'is deleted',
  stays: 'stays'
}

export function preflightLines(rows: readonly Row[]): string[] {
  const text = (row: Row, key: string) => clean(typeof row[key] === 'string' ? row[key] : '')
  const width = (key: string) => Math.max(0, ...rows.map((row) => text(row, key).length))
  const [names, powers] = [width('name'), width('power')]
  return rows.map((row) => {
    const [does, to, why] = [text(row, 'does'), text(row, 'to'), text(row, 'why')]
    const said = `${words[does] ?? does}${to === '' ? '' : ` ${to}`}${why === '' ? '' : `: ${why}`}`
    return `${text(row, 'name').padEnd(names)}  ${text(row, 'power').padEnd(powers)}  ${said}`
  })
}
