// What programs may import: `import { … } from 'taskomatic'`. A client of a running server, and what an action is made of.
export { createClient, findServer, type Client, type Server } from './cli/client.ts'
export type { Problem } from './api/problem.ts'
export type { PlanSubmission, Preview, Submitted, TaskSubmission } from './api/submission.ts'
export type { LogLine, PlanView, TaskPage, TaskProblem, TaskSummary, TaskView, Why } from './api/task.ts'
export type { HostView, PoolView, StoreView, VmView, VolumeView } from './api/fleet.ts'
export {
  action,
  complete,
  expand,
  failed,
  impossible,
  nothingToDo,
  park,
  possible,
  retry,
  uncertain,
  type Action,
  type ActionContext,
  type Outcome,
  type Probe,
  type Verdict
} from './actions/action.ts'
