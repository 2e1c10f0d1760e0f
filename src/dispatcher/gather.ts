// Gathers what many ask for one by one and does it for all of them at once: hundreds of tasks run beside each other, and a round trip
// to the database for each would cost more than their work.

export type GatherOptions = {
  /** Of one batch. Default 100. */
  most?: number
  /** Batches under way at one time; what is asked for meanwhile is gathered for the next. Default 1. */
  atOnce?: number
  /** From the beginning of one batch to that of the next, at least: whoever comes alone waits for nothing. Default 20. */
  everyMs?: number
}

type Asked<T, R> = { item: T; resolve: (value: R) => void; reject: (error: unknown) => void }

/**
 * The returned function does `work` for one item, together with whatever else is asked for until it begins. `work` answers in the
 * order of its items. When it throws and there are several, each is done alone: one that is at fault must not take the others with it.
 * So `work` must be all or nothing.
 */
export function gather<T, R>(
  work: (items: T[]) => Promise<R[]>,
  { most = 100, atOnce = 1, everyMs = 20 }: GatherOptions = {}
): (item: T) => Promise<R> {
  const waiting: Asked<T, R>[] = []
  let underWay = 0
  let isDue = false
  let last = -Infinity

  const begin = () => {
    isDue = false
    last = performance.now()
    while (waiting.length > 0 && underWay < atOnce) {
      underWay++
      void doBatch(waiting.splice(0, most)).finally(() => {
        underWay--
        arm()
      })
    }
  }
  const arm = () => {
    if (isDue || waiting.length === 0 || underWay >= atOnce) return
    isDue = true
    const leftMs = last + everyMs - performance.now()
    // Whatever else becomes known in this turn goes along.
    if (leftMs <= 0 || waiting.length >= most) setImmediate(begin)
    else setTimeout(begin, leftMs)
  }
  const doBatch = async (batch: Asked<T, R>[]): Promise<void> => {
    let answers: R[]
    try {
      answers = await work(batch.map(({ item }) => item))
    } catch (error) {
      const [only, ...others] = batch
      if (only && others.length === 0) only.reject(error)
      else for (const one of batch) await doBatch([one])
      return
    }
    for (const [index, { resolve }] of batch.entries()) resolve(answers[index] as R)
  }
  return (item) =>
    new Promise((resolve, reject) => {
      waiting.push({ item, resolve, reject })
      arm()
    })
}
