// The table of all procedures that a simulated host answers.

import type { ArgsOf, ReplyOf } from '../libvirt/payload.ts'
import type { ProcedureName } from '../libvirt/wire.gen.ts'
import { agentCalls } from './agent-calls.ts'
import { blockCalls } from './block-calls.ts'
import type { CallContext, Handler, Handlers } from './call.ts'
import { deviceCalls } from './device-calls.ts'
import { domainCalls } from './domain-calls.ts'
import { domainQueries } from './domain-queries.ts'
import { eventCalls } from './event-calls.ts'
import type { SimHost } from './host.ts'
import { jobCalls } from './job-calls.ts'
import { metadataCalls } from './metadata-calls.ts'
import { migrationCalls } from './migration-calls.ts'
import { networkCalls } from './network-calls.ts'
import { nodeCalls } from './node-calls.ts'
import { poolCalls } from './pool-calls.ts'
import { refuse } from './refusal.ts'
import { saveCalls } from './save.ts'
import { snapshotCalls } from './snapshot-calls.ts'
import { statisticsCalls } from './statistics.ts'
import { streamCalls } from './stream.ts'
import { tuningCalls } from './tuning-calls.ts'
import { volumeCalls } from './volume-calls.ts'

const handlers: Handlers = {
  ...nodeCalls,
  ...eventCalls,
  ...domainCalls,
  ...domainQueries,
  ...metadataCalls,
  ...saveCalls,
  ...snapshotCalls,
  ...deviceCalls,
  ...tuningCalls,
  ...agentCalls,
  ...blockCalls,
  ...statisticsCalls,
  ...jobCalls,
  ...migrationCalls,
  ...poolCalls,
  ...volumeCalls,
  ...streamCalls,
  ...networkCalls
}

/** Carries out one call. Throws Refusal. */
export async function answer<Name extends ProcedureName>(
  name: Name,
  args: ArgsOf<Name>,
  host: SimHost,
  call: CallContext
): Promise<ReplyOf<Name>> {
  const handler: Handler<Name> | undefined = handlers[name]
  if (!handler) throw refuse('NO_SUPPORT', 'NONE', name)
  return handler(args, host, call)
}
