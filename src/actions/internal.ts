// Actions that the server makes tasks of by itself: nobody can ask for them by name, so their arguments need no checks.
import type { Action } from './action.ts'
import { planRun } from './plan-run.ts'
import { planUndo } from './plan-undo.ts'

const all: readonly Action[] = [planRun, planUndo]

export const internalActions: ReadonlyMap<string, Action> = new Map(all.map((action) => [action.name, action]))
