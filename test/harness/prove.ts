// `npm run prove -- NAME`: the full form of a proof whose short form is among the tests. Without a name it lists them.
// A proof is a command that prints its figure and exits 0 only if it holds; the figure goes into docs with its date.

import { spawnSync } from 'node:child_process'

type Proof = {
  what: string
  command: string[]
  /** About how long it takes on two cores. */
  minutes: number
}

const proofs: Readonly<Record<string, Proof>> = {}

const [name, ...more] = process.argv.slice(2)
if (name === undefined) {
  const names = Object.keys(proofs)
  if (names.length === 0) console.log('no proofs yet')
  for (const each of names) console.log(`${each.padEnd(20)} ${proofs[each]!.what} (${proofs[each]!.minutes} min)`)
} else {
  const proof = proofs[name]
  if (proof) {
    const [command = '', ...args] = proof.command
    const { status, error } = spawnSync(command, [...args, ...more], { stdio: 'inherit' })
    if (error) console.error(error.message)
    process.exitCode = status ?? 1
  } else {
    console.error(`no proof ${name}: npm run prove lists them`)
    process.exitCode = 2
  }
}
