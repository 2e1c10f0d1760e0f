// Pages of lists: a limit as text, since nothing in a query is coerced, and an opaque cursor.
import { Type } from 'typebox'

export const pageQuery = {
  limit: Type.Optional(
    Type.String({ pattern: '^([1-9][0-9]{0,2}|1000)$', description: 'Items a page, 1 to 1000; default 100' })
  ),
  cursor: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 1000,
      pattern: '^[A-Za-z0-9_-]+$',
      description: '`next` of the page before'
    })
  )
}

export const limitOf = (text: string | undefined): number => (text === undefined ? 100 : Number(text))
