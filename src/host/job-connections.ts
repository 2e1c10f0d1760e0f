// Connections for calls that may take long. A host's daemon stops reading a connection with five unanswered calls, so these never
// share one with questions, and a stuck guest holds up at most the calls that happen to queue behind it.
import type { Opened } from './open-connection.ts'

/** 3 × 4 calls: the daemon's 20 workers are shared by everyone who talks to it. */
const MOST_CONNECTIONS = 3

type Slot = { opened: Promise<Opened>; calls: number }

export class JobConnections {
  readonly #open: () => Promise<Opened>
  readonly #slots: Slot[] = []

  constructor(open: () => Promise<Opened>) {
    this.#open = open
  }

  /** Runs `use` on the connection with the fewest calls; another is opened rather than sharing, while there may be more. */
  async with<T>(use: (opened: Opened) => Promise<T>): Promise<T> {
    let slot = this.#slots.toSorted((a, b) => a.calls - b.calls)[0]
    if (!slot || (slot.calls > 0 && this.#slots.length < MOST_CONNECTIONS)) slot = this.#add()
    slot.calls++
    try {
      return await use(await slot.opened)
    } finally {
      slot.calls--
    }
  }

  #add(): Slot {
    const slot: Slot = { opened: this.#open(), calls: 0 }
    this.#slots.push(slot)
    const remove = () => {
      const at = this.#slots.indexOf(slot)
      if (at >= 0) this.#slots.splice(at, 1)
    }
    slot.opened.then(({ connection }) => connection.closed.then(remove), remove)
    return slot
  }

  /** Ends them all; what they are waiting for has an unknown outcome. */
  destroy(): void {
    for (const slot of this.#slots.splice(0))
      slot.opened.then(
        ({ connection }) => connection.destroy(),
        () => {}
      )
  }
}
