// The first page of help. Apart from commander, which takes longer to load than this takes to print.
import { nouns, otherCommands } from './nouns.ts'

export function firstPage(): string {
  const width = Math.max(
    ...Object.keys(nouns).map((noun) => noun.length),
    ...Object.keys(otherCommands).map((word) => word.length)
  )
  const line = (word: string, text: string) => `  ${word.padEnd(width)}  ${text}`
  return `Usage: taskomatic NOUN VERB [NAME…] [options]

Runs a fleet of libvirt hosts through one queue of tasks.

${Object.entries(nouns)
  .map(([noun, { verbs }]) => line(noun, verbs))
  .join('\n')}

${Object.entries(otherCommands)
  .map(([word, text]) => line(word, text))
  .join('\n')}

  taskomatic NOUN --help        the verbs of a noun
  taskomatic NOUN VERB --help   a verb's options

Commands that change something print the tasks that they made, and on a terminal wait for them.
  --wait, --no-wait, --timeout 5m   wait for the end, or not, or for so long
  --dry-run                         print the tasks that would be made, make none
  --reason TEXT                     kept with the task
  -o table|wide|json|jsonl|yaml|name

Exit: 0 done, 1 error, 2 usage, 3 the task failed, 4 auth, 5 not found or conflict, 6 cancelled, 124 timeout.
Environment: TASKOMATIC_STATE, TASKOMATIC_URL, TASKOMATIC_TOKEN, NO_COLOR.
`
}
