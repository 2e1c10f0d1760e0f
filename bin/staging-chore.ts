// Takes away what was sent and that no task will bring anywhere any more: a day old and wanted by no open task. At the start it also
// takes away what an earlier process had only begun.
import type { Logger } from 'pino'
import type { Database } from '../src/db/open.ts'
import { openTaskWith } from '../src/queue/read.ts'
import type { Uploads } from '../src/staging/uploads.ts'

const keptMs = 24 * 3_600_000
const everyMs = 3_600_000

export function keepStagingTidy({ uploads, database, log }: { uploads: Uploads; database: Database; log: Logger }): {
  stop(): Promise<void>
} {
  const isWanted = (upload: string) => openTaskWith(database, { action: 'volume.upload', key: 'upload', value: upload })
  const sweep = async () => {
    try {
      const removed = await uploads.sweep(keptMs, isWanted)
      if (removed > 0) log.info({ removed }, 'uploads that nobody wants any more were removed')
    } catch (error) {
      log.warn({ err: error }, 'old uploads could not be looked through')
    }
  }
  let working = sweep()
  const timer = setInterval(() => {
    working = working.then(sweep)
  }, everyMs)
  timer.unref()
  return {
    async stop() {
      clearInterval(timer)
      await working
    }
  }
}
