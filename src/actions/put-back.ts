// Putting things back after what was done for them was refused, so that a failed task leaves nothing.
import { HostError } from '../host/error.ts'
import type { ActionContext } from './action.ts'

export const isRefused = (error: unknown): boolean => error instanceof HostError && error.code === 'refused'

/** That it fails must not hide why it was needed: it is logged, with what is left then. */
export async function putBack(ctx: ActionContext, left: string, work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    ctx.log('warn', `${left}: ${error instanceof Error ? error.message : ''}`)
  }
}
