// What a running command has: its streams, its server, how it prints.
import type { Client } from './client.ts'
import type { Format } from './render.ts'

export type Streams = {
  out: { write(text: string): unknown; isTTY?: boolean; columns?: number }
  err: { write(text: string): unknown; isTTY?: boolean }
}

export interface Cli extends Streams {
  readonly env: Record<string, string | undefined>
  readonly format: Format
  readonly color: boolean
  /** Connects at first use: what needs no server works without. */
  client(): Client
  /** Progress and notices, for people: standard error. */
  say(line: string): void
  /** Aborts at Ctrl-C. */
  readonly interrupted: AbortSignal
  readInput(file: string): Promise<string>
}
