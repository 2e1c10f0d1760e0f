// Figures of a soak: how much larger tables are than what is in them, and how fast memory grows.
import type { Sql } from '../../src/db/open.ts'

/** Below this a table is small, whatever is in it: it holds what was in it at its busiest moment. */
const SMALL_BYTES = 1 << 20
const HEADER = 4 // a tuple's pointer in its page
const PAGE_FILLED = 0.95

export type TableFigure = { table: string; bytes: number; live: number }

/** Every table of ours with its size on disk, and what its rows take by themselves at its fill factor. */
async function tableFigures(owner: Sql): Promise<TableFigure[]> {
  const tables = await owner.query<{ schema: string; name: string; bytes: number; fill: number }>(
    `select n.nspname as schema, c.relname as name, pg_relation_size(c.oid) as bytes,
       coalesce((select option_value::integer from pg_options_to_table(c.reloptions) where option_name = 'fillfactor'), 100) as fill
     from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind = 'r' and n.nspname in ('queue', 'inventory') order by 1, 2`
  )
  const figures: TableFigure[] = []
  for (const { schema, name, bytes, fill } of tables) {
    const [row] = await owner.query<{ live: number }>(
      `select coalesce(sum(pg_column_size(t.*) + ${HEADER}), 0)::bigint as live from ${schema}.${name} t`
    )
    figures.push({
      table: `${schema}.${name}`,
      bytes,
      live: Math.ceil((row?.live ?? 0) / ((fill / 100) * PAGE_FILLED))
    })
  }
  return figures
}

export async function tablesLargerThanLive(owner: Sql) {
  const figures = await tableFigures(owner)
  const [open] = await owner.query<{ tasks: number; places: number; claims: number; effects: number; granted: number }>(
    `select (select count(*) from queue.task where outcome is null) as tasks, (select count(*) from queue.place) as places,
       (select count(*) from queue.claim) as claims, (select count(*) from queue.effect) as effects,
       (select count(*) from queue.cost where granted or queued) as granted`
  )
  const [largest] = figures.toSorted((a, b) => b.bytes - 2 * b.live - (a.bytes - 2 * a.live))
  return {
    open,
    tables: figures.length,
    found: figures.filter(({ bytes, live }) => bytes > SMALL_BYTES && bytes > 2 * live),
    worst: largest ? `${largest.table}: ${kib(largest.bytes)} for ${kib(largest.live)}` : 'none'
  }
}

const kib = (bytes: number): string => `${Math.round(bytes / 1024)} KiB`

/** Megabytes an hour over the last two thirds, by least squares; undefined of a few samples. */
export function growthOf(samples: readonly { hours: number; mb: number }[]): number | undefined {
  const warm = samples.slice(Math.ceil(samples.length / 3))
  if (warm.length < 10) return undefined
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
  const [hours, mb] = [mean(warm.map((one) => one.hours)), mean(warm.map((one) => one.mb))]
  const covariance = mean(warm.map((one) => (one.hours - hours) * (one.mb - mb)))
  return covariance / mean(warm.map((one) => (one.hours - hours) ** 2))
}
