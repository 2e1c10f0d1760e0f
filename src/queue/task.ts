// What the queue knows of a task: an action's name, arguments it does not read, what it touches and what it waits for.
import type { JsonObject } from '../db/json.ts'

/** Touching `resource` until the task ends; two conflict unless both are shared. */
export type Claim = { resource: string; mode: 'shared' | 'exclusive' }

/** What will hold of `subject` once the task is complete; null = gone. Opaque to the queue, kept while the task is open. */
export type Effect = { subject: string; facts: JsonObject | null }

export type Needs = 'complete' | 'ended'

/** A stored task's id, or an earlier element of the same submission. */
export type TaskRef = number | { index: number }

export type NewTask = {
  action: string
  /** One line for people. */
  title: string
  args: JsonObject
  claims: readonly Claim[]
  effects: readonly Effect[]
  /** Explicit prerequisites, and `complete` edges to the tasks that bring about what this one needs. */
  after?: readonly { task: TaskRef; needs: Needs }[]
  /** -100 … 100, default 0; larger first. */
  priority?: number
  notBefore?: Date
  hold?: { reason: string }
  /** Must bind late claims before it counts as started. */
  binds: boolean
  limits?: readonly { key: string; units: number }[]
  undo?: JsonObject
}

export type TaskError = {
  /** Stable, snake_case. */
  code: string
  message: string
  step?: string
  /** What to do next. */
  next?: string
  details?: JsonObject
  causes?: { code?: string; message: string }[]
}
