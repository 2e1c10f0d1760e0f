// GET /actions: what can be asked for, with the schema of each action's arguments: forms and help texts are made of it.
import { Type } from 'typebox'
import type { Action } from '../actions/action.ts'
import { answers, type Api } from './app.ts'

const ActionView = Type.Object(
  {
    name: Type.String(),
    summary: Type.String(),
    irreversible: Type.Boolean(),
    args: Type.Unknown({ description: 'JSON Schema' })
  },
  { $id: 'Action' }
)

export function actionRoutes(app: Api, registry: ReadonlyMap<string, Action>): void {
  const actions = [...registry.values()].map(({ name, summary, irreversible = false, args }) => ({
    name,
    summary,
    irreversible,
    args
  }))
  app.get(
    '/actions',
    {
      schema: {
        summary: 'Actions and the schemas of their arguments',
        operationId: 'listActions',
        response: { 200: answers('All actions', Type.Object({ items: Type.Array(ActionView) })) }
      }
    },
    async () => ({ items: actions })
  )
}
