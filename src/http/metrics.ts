// GET /metrics, in Prometheus' text format; with a token like everything else. Each server has a registry of its own.
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client'
import type { Api } from './app.ts'

/** Read when somebody scrapes. */
export type MetricSources = {
  /** Tasks that only the guard poll found: 0 on a healthy server. */
  guardPollFound(): number
  /** Tasks in progress that nobody looks after: 0 on a healthy server. */
  forgotten(): number
  running(): number
  /** State → tasks that have not ended. */
  openTasks(): Promise<Record<string, number>>
  hosts(): Record<string, number>
  /** Hosts that this process watches. */
  watched?(): number
}

export function metricRoutes(app: Api, sources: MetricSources): void {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry, prefix: 'taskomatic_' })
  const found = new Counter({
    name: 'taskomatic_guard_poll_found_total',
    help: 'Runnable tasks that no event had announced; anything but 0 is a fault',
    registers: [registry],
    collect() {
      this.reset()
      this.inc(sources.guardPollFound())
    }
  })
  found.inc(0)
  gauge(
    registry,
    'taskomatic_tasks_forgotten',
    'Tasks in progress whose dispatcher is gone and that nobody took over; anything but 0 is a fault',
    [],
    (set) => set({}, sources.forgotten())
  )
  gauge(registry, 'taskomatic_dispatcher_running', 'Worker slots in use', [], (set) => set({}, sources.running()))
  gauge(registry, 'taskomatic_tasks', 'Tasks that have not ended, by state', ['state'], async (set) => {
    for (const [state, count] of Object.entries(await sources.openTasks())) set({ state }, count)
  })
  gauge(registry, 'taskomatic_hosts', 'Hosts, by connection', ['connection'], (set) => {
    for (const [connection, count] of Object.entries(sources.hosts())) set({ connection }, count)
  })
  gauge(
    registry,
    'taskomatic_hosts_watched',
    'Hosts that this server watches; over all servers each is one',
    [],
    (set) => set({}, sources.watched?.() ?? 0)
  )
  const duration = new Histogram({
    name: 'taskomatic_http_request_duration_seconds',
    help: 'Answering requests; long polls are left out',
    labelNames: ['method', 'route', 'status'],
    buckets: [0.005, 0.02, 0.1, 0.5, 2, 10],
    registers: [registry]
  })
  app.addHook('onResponse', async (request, reply) => {
    const { wait } = (request.query ?? {}) as { wait?: string }
    const route = request.routeOptions.url
    // Only routes that exist are labels: what anybody may write into a URL is not.
    if (route === undefined || wait !== undefined || route.endsWith('/events')) return
    duration.observe({ method: request.method, route, status: String(reply.statusCode) }, reply.elapsedTime / 1000)
  })
  app.get('/metrics', { schema: { hide: true } }, async (_request, reply) => {
    return reply
      .type(registry.contentType)
      .serializer((text: unknown) => text as string)
      .send(await registry.metrics())
  })
}

function gauge(
  registry: Registry,
  name: string,
  help: string,
  labelNames: string[],
  read: (set: (labels: Record<string, string>, value: number) => void) => void | Promise<void>
): void {
  void new Gauge({
    name,
    help,
    labelNames,
    registers: [registry],
    async collect() {
      this.reset()
      await read((labels, value) => this.set(labels, value))
    }
  })
}
