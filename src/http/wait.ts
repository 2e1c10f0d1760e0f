// Long polls: how long, and for what.
import { Type } from 'typebox'

export const waitQuery = {
  wait: Type.Optional(
    Type.String({ pattern: '^([0-9]|[1-5][0-9]|60)$', description: 'Seconds to wait for the end, 0 to 60' })
  )
}

export const waitMs = (text: string | undefined): number => Number(text ?? 0) * 1000
