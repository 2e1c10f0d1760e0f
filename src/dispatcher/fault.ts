// Faults: errors that no action turned into an outcome. The task fails with the whole chain of causes; the stack goes to the log only.
import type { TaskError } from '../queue/task.ts'

const maxCauses = 8

export function faultOf(error: unknown, step: string | undefined): TaskError {
  const causes: { code?: string; message: string }[] = []
  for (let cause: unknown = causeOf(error); cause !== undefined && causes.length < maxCauses; cause = causeOf(cause)) {
    causes.push({ ...codeOf(cause), message: messageOf(cause) })
  }
  return {
    code: 'fault',
    message: messageOf(error),
    next: 'a fault of Taskomatic or of its database: read the log of the server, then retry the task',
    ...(step === undefined ? {} : { step }),
    ...(causes.length > 0 ? { causes } : {})
  }
}

const causeOf = (error: unknown): unknown => (error instanceof Error ? (error.cause ?? undefined) : undefined)

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

const codeOf = (error: unknown): { code?: string } =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? { code: error.code } : {}
