// `taskomatic db init`: makes roles, a database and its schema on a PostgreSQL of one's own. Run again it brings the schema up to
// date. Passwords come from the environment or a file, never as words of the command, which everybody on the machine can read.
import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { DatabaseError } from '../src/db/error.ts'
import { initDatabase } from '../src/db/init.ts'

const help = `Usage: taskomatic db init [options]

Makes what a server needs on a PostgreSQL of version 15 or later: roles, a database, its schema. May be run again.

Options:
  --admin-url <url>        a login that may create roles and databases; default TASKOMATIC_ADMIN_URL
  --database <name>        default taskomatic
  --password-file <file>   the password that the server's login gets; none where PostgreSQL trusts a unix socket
  -h, --help               display help for command

Prints the DATABASE_URL for \`taskomatic server\`, without the password: put that into PGPASSWORD or a PGPASSFILE.
`

/** @returns the exit code */
export async function db(words: readonly string[]): Promise<number> {
  let given
  try {
    given = parseArgs({
      args: [...words],
      allowPositionals: true,
      options: {
        'admin-url': { type: 'string' },
        database: { type: 'string' },
        'password-file': { type: 'string' },
        help: { type: 'boolean', short: 'h' }
      }
    })
  } catch (error) {
    return refused((error as Error).message, 'see `taskomatic db init --help`')
  }
  const { values, positionals } = given
  if (values.help) {
    process.stdout.write(help)
    return 0
  }
  if (positionals.join(' ') !== 'init') return refused('db knows one verb: init', 'see `taskomatic db init --help`')
  const adminUrl = values['admin-url'] ?? process.env['TASKOMATIC_ADMIN_URL']
  if (!adminUrl)
    return refused(
      "no administrator's login",
      'give --admin-url or TASKOMATIC_ADMIN_URL, e.g. postgresql://postgres@localhost/postgres'
    )
  try {
    const answer = await initDatabase({
      adminUrl,
      ...(values.database === undefined ? {} : { database: values.database }),
      ...(values['password-file'] === undefined
        ? {}
        : { serverPassword: (await readFile(values['password-file'], 'utf8')).trim() })
    })
    process.stderr.write(
      `${answer.created ? 'made the database' : 'the database was there'}; ${answer.migrated.length} migrations applied\n`
    )
    const url = new URL(answer.serverUrl)
    url.password = ''
    process.stdout.write(`${url.href}\n`)
    return 0
  } catch (error) {
    if (!(error instanceof DatabaseError) && (error as NodeJS.ErrnoException).code === undefined) throw error
    process.stderr.write(`error: ${(error as Error).message}\n`)
    return 1
  }
}

function refused(message: string, next: string): number {
  process.stderr.write(`error: ${message}\n  next: ${next}\n`)
  return 2
}
