// An API on a database of its own, with a small fleet in the inventory and nothing that runs tasks.
import pino from 'pino'
import type { TSchema } from 'typebox'
import { Compile, type Validator } from 'typebox/compile'
import { preflight } from '../../bin/preflight.ts'
import { registry } from '../../src/actions/registry.ts'
import { createSubmitter } from '../../src/actions/submit.ts'
import type { Engine } from '../../src/dispatcher/engine.ts'
import { HostConnections } from '../../src/host/connections.ts'
import { createApi } from '../../src/http/api.ts'
import { listen } from '../../src/http/server.ts'
import { tokenAuthenticator } from '../../src/identity/token.ts'
import { beginSight, recordListing } from '../../src/inventory/observe.ts'
import { freshDatabase, type FreshDatabase } from '../support/postgres.ts'
import { knownHost, seenPool, seenVm, setConnection } from '../inventory/seen.ts'

export const token = 'tkm_test'

export type Served = {
  url: string
  fresh: FreshDatabase
  /** Times that something may have become runnable. */
  woken: () => number
  request(method: 'GET' | 'POST', path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>
  /** May be called twice. */
  stop(): Promise<void>
}
export type Answer = { status: number; type: string; body: any } // oxlint-disable-line typescript/no-explicit-any -- tests look into it

export async function serve(): Promise<Served> {
  const fresh = await freshDatabase({ poolSize: 10 })
  const database = fresh.database
  const hosts = new HostConnections()
  let woken = 0
  const api = await createApi({
    database,
    reads: database,
    registry,
    submitter: createSubmitter({ database, registry }),
    authenticator: tokenAuthenticator(token),
    log: pino({ level: 'silent' }),
    version: '0.0.0',
    wake: () => woken++,
    preflight: preflight({ hosts } as unknown as Engine)
  })
  const described = describedBy(api.swagger() as unknown as Document)
  const server = await listen(api, { host: '127.0.0.1', port: 0 })
  let stopping: Promise<void> | undefined
  const stop = async () => {
    await server.stop()
    await hosts.stop()
    await fresh.drop()
  }
  return {
    url: server.url,
    fresh,
    woken: () => woken,
    async request(method, path, body, headers = {}) {
      const answer = await fetch(`${server.url}/api/v1${path}`, {
        method,
        headers: {
          authorization: `Bearer ${token}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) })
      })
      const answered: unknown = await answer.json()
      described.check(method, path.split('?')[0] ?? path, answer.status, answered)
      return { status: answer.status, type: answer.headers.get('content-type') ?? '', body: answered }
    },
    stop: () => (stopping ??= stop())
  }
}

/** Hosts h1 and h2, each up with a pool; web1 on h1 and twin on both, off; run1 runs on h1. */
export async function smallFleet({ database }: FreshDatabase): Promise<void> {
  const vms = {
    h1: [
      seenVm({ name: 'web1' }),
      seenVm({ name: 'twin' }),
      seenVm({ name: 'run1', power: 'running', reason: 'booted' })
    ],
    h2: [seenVm({ name: 'twin' })]
  }
  for (const host of ['h1', 'h2'] as const) {
    await knownHost(database, host)
    const sight = await beginSight(database)
    const pools = [seenPool({ name: 'data', target: '/srv/data' })]
    await database.transaction((tx) => recordListing(tx, sight, host, { vms: vms[host], pools, networks: [] }))
    await setConnection(database, host, 'up', null)
  }
}

type Document = {
  paths: Record<
    string,
    Record<string, { responses: Record<string, { content?: Record<string, { schema: TSchema }> }> }>
  >
  components: { schemas: Record<string, TSchema> }
}

/** Holds every answer against what openapi.json says of it. */
function describedBy(document: Document) {
  const compiled = new Map<TSchema, Validator>()
  const endpoints = Object.entries(document.paths).map(([template, methods]) => ({
    pattern: new RegExp(`^${template.replaceAll(/\{[^}]+\}/g, '[^/]+')}$`),
    methods
  }))
  const schemaOf = (method: string, path: string, status: number): TSchema => {
    if (status >= 400) return document.components.schemas['Problem'] as TSchema
    const responses = endpoints.find(({ pattern }) => pattern.test(`/api/v1${path}`))?.methods[method.toLowerCase()]
      ?.responses
    const schema = responses?.[String(status)]?.content?.['application/json']?.schema
    if (!schema) throw new Error(`openapi.json does not describe the answer ${status} to ${method} ${path}`)
    return schema
  }
  return {
    check(method: string, path: string, status: number, body: unknown) {
      const schema = schemaOf(method, path, status)
      let validator = compiled.get(schema)
      if (!validator) compiled.set(schema, (validator = Compile(schema)))
      if (validator.Check(body)) return
      throw new Error(
        `${method} ${path} answered what openapi.json does not describe: ${JSON.stringify(validator.Errors(body).slice(0, 3))} in ${JSON.stringify(body).slice(0, 500)}`
      )
    }
  }
}
