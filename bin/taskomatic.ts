// The command's first file: what is no client command is loaded only when it is called.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageDirectory } from '../src/api/places.ts'
import { main } from '../src/cli/main.ts'

const words = process.argv.slice(2)
const interrupted = new AbortController()

async function run(): Promise<number> {
  switch (words[0]) {
    case 'server':
      return (await import('./server.ts')).server(words.slice(1))
    case 'demo':
      return (await import('./demo.ts')).demo(words.slice(1))
    case 'simhost':
      return (await import('./simhost.ts')).simhost(words.slice(1))
    case 'db':
      return (await import('./db.ts')).db(words.slice(1))
    default:
      // The first Ctrl-C detaches, the second ends at once.
      process.once('SIGINT', () => interrupted.abort())
      return main(words, {
        env: process.env,
        out: process.stdout,
        err: process.stderr,
        interrupted: interrupted.signal,
        readStdin: async () => (await import('node:stream/consumers')).text(process.stdin),
        version
      })
  }
}

function version(): string {
  return (JSON.parse(readFileSync(join(packageDirectory(), 'package.json'), 'utf8')) as { version: string }).version
}

// Whoever reads us may stop reading: `taskomatic vm list | head -1` is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1))

process.exitCode = await run()
