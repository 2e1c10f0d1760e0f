// What a task is to the queue: words and shapes, no behaviour. Actions and resources are names here; what they mean, and what
// is in args, facts and results, is other layers' business.

import type { Json, JsonObject } from '../db/json.ts'
import type { TaskState, UndoState } from './state.ts'

export type { Json, JsonObject } from '../db/json.ts'

export type ClaimMode = 'shared' | 'exclusive'

/** The task touches the resource until it ends. Of two claims of one task on one resource the stronger holds. */
export type Claim = { resource: string; mode: ClaimMode }

/** What will hold of `subject` once the task is complete; opaque to the queue; null = gone. */
export type Effect = { subject: string; facts: JsonObject | null }

/** complete: the prerequisite must have ended well, else the dependant fails. ended: pure ordering. */
export type Needs = 'complete' | 'ended'

/** Units of a limited key, such as 1 of `starts/h1`, that a task needs while it is ready or running. */
export type Units = { key: string; units: number }

/** A stored task, or an earlier element of the same submission. */
export type TaskRef = number | { index: number }

export type NewTask = {
  /** noun.verb */
  action: string
  /** One line for people. */
  title: string
  args: JsonObject
  claims: readonly Claim[]
  effects: readonly Effect[]
  /** Edges beside those that follow from the claims; only to earlier positions. */
  after?: readonly { task: TaskRef; needs: Needs }[]
  /** -100..100, larger first among the ready. Default 0. */
  priority?: number
  /** Until then it is scheduled, and takes its place in the lines only then. */
  notBefore?: Date
  hold?: { reason: string }
  /** Must bind its final claims (see bind.ts) before it counts as started. */
  binds: boolean
  /** Units of limited keys that it needs while it is ready or running. */
  limits?: readonly Units[]
  /** It undoes this task. */
  undo?: { of: number }
}

export type OnFailure = 'stop' | 'continue' | 'rollback'

export type Submission = {
  tasks: readonly NewTask[]
  /** Without one, several tasks are several submissions in one transaction. */
  plan?: { name?: string; onFailure: OnFailure }
  by: string
  reason?: string
  /** The same key and fingerprint again answer what was answered first. */
  idempotency?: { key: string; fingerprint: string }
}

export type TaskError = {
  /** Stable snake_case. */
  code: string
  message: string
  /** At which step of the action it happened. */
  step?: string
  /** What to do next. */
  next?: string
  details?: JsonObject
  causes?: { code?: string; message: string }[]
}

export type Progress = { done: number; total: number | null; unit: string; note?: string }

/** As read back. Times in the database's clock. */
export type Task = {
  id: number
  action: string
  title: string
  args: JsonObject
  state: TaskState
  undoState: UndoState
  plan: number | null
  parent: number | null
  priority: number
  binds: boolean
  bound: JsonObject | null
  claims: Claim[]
  effects: Effect[]
  limits: Units[]
  by: string
  reason: string | null
  createdAt: Date
  notBefore: Date | null
  /** Attempts that were begun. */
  attempts: number
  /** Of the last attempt. */
  startedAt: Date | null
  endedAt: Date | null
  result: Json
  error: TaskError | null
  progress: Progress | null
  /** What was found when nobody could tell whether it had happened. */
  evidence: Json
  cancelRequested: { by: string; reason: string | null; at: Date } | null
}
