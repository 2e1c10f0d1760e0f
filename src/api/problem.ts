// Errors as RFC 9457 problem+json, with what a person or a script needs to go on.
import { Type, type Static } from 'typebox'

export const Problem = Type.Object(
  {
    type: Type.String({ description: 'urn:taskomatic:problem:CODE' }),
    title: Type.String({ description: 'The kind of problem, for people; the same for every problem of this code' }),
    status: Type.Integer(),
    code: Type.String({ description: 'Stable, snake_case: what programs branch on' }),
    detail: Type.String({ description: 'What is wrong here: the value and the rule' }),
    instance: Type.String({ description: "The request's id, as in the server's log" }),
    next: Type.String({ description: 'What to do next' }),
    pointer: Type.Optional(Type.String({ description: 'JSON pointer to the value within the request' })),
    task: Type.Optional(
      Type.Object({ id: Type.Integer(), title: Type.String() }, { description: 'The task that is in the way' })
    ),
    candidates: Type.Optional(Type.Array(Type.String(), { description: 'What an ambiguous name may have meant' }))
  },
  { $id: 'Problem', additionalProperties: false }
)
export type Problem = Static<typeof Problem>
