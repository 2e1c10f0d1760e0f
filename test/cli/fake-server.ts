// A server of canned answers for tests of the command: what was asked is kept, what is answered is given.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { main } from '../../src/cli/main.ts'

export type Asked = {
  method: string
  path: string
  query: Record<string, string>
  body: unknown
  key: string | undefined
  authorization: string | undefined
}
export type Answer = { status?: number; body: unknown } | 'drop'

export async function fakeServer(answer: (asked: Asked) => Answer | Promise<Answer>) {
  const asked: Asked[] = []
  const server = createServer((request, response) => {
    void (async () => {
      const url = new URL(request.url ?? '/', 'http://localhost')
      const body = await text(request)
      const one: Asked = {
        method: request.method ?? '',
        path: url.pathname.replace(/^\/api\/v1/, ''),
        query: Object.fromEntries(url.searchParams),
        body: body === '' ? undefined : JSON.parse(body),
        key: request.headers['idempotency-key'] as string | undefined,
        authorization: request.headers.authorization
      }
      asked.push(one)
      const given = await answer(one)
      if (given === 'drop') return request.socket.destroy()
      response.writeHead(given.status ?? 200, { 'content-type': 'application/json' })
      return response.end(JSON.stringify(given.body))
    })()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    url,
    asked,
    stop: () => {
      server.closeAllConnections()
      return new Promise((resolve) => server.close(resolve))
    }
  }
}

export type Ran = { code: number; out: string; err: string }

/** Runs the command in this process, as from a script unless `tty`. */
export async function run(
  words: string[],
  options: { url?: string; env?: Record<string, string>; tty?: boolean; stdin?: string; interrupted?: AbortSignal } = {}
): Promise<Ran> {
  let out = ''
  let err = ''
  const tty = options.tty ?? false
  const code = await main(words, {
    env: { TASKOMATIC_TOKEN: 'tkm_test', ...(options.url ? { TASKOMATIC_URL: options.url } : {}), ...options.env },
    out: { write: (chunk: string) => (out += chunk), isTTY: tty },
    err: { write: (chunk: string) => (err += chunk), isTTY: tty },
    interrupted: options.interrupted ?? new AbortController().signal,
    readStdin: async () => options.stdin ?? '',
    version: () => '1.2.3'
  })
  return { code, out, err }
}
