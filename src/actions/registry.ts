// All actions by name. API, CLI and web take schemas and help texts from here: adding an action is adding one file and a line.
import type { Action } from './action.ts'

const all: readonly Action[] = []

export const registry: ReadonlyMap<string, Action> = new Map(all.map((action) => [action.name, action]))
