// One demo a directory: the process that holds it is named in it.
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isAlive, processNamedIn } from '../sim/owned-directory.ts'

export class DemoError extends Error {
  override readonly name = 'DemoError'
  readonly code: 'already_running'
  constructor(code: 'already_running', message: string) {
    super(message)
    this.code = code
  }
}

/**
 * Takes the directory, empties it of what a demo that was killed left behind, and answers how to give it back, contents and all.
 * @throws DemoError `already_running`
 */
export async function takeDirectory(directory: string): Promise<() => Promise<void>> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const file = join(directory, 'demo.pid')
  for (let tries = 0; ; tries++) {
    try {
      await writeFile(file, String(process.pid), { flag: 'wx' })
      return () => rm(directory, { recursive: true, force: true })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    const named = processNamedIn(file)
    const holder = named !== undefined && isAlive(named) ? named : undefined
    if (holder !== undefined || tries === 3) {
      throw new DemoError(
        'already_running',
        `a demo runs already${holder === undefined ? '' : ` (process ${holder})`}, with its state in ${directory}: use that one, or end it with Ctrl-C where it was started`
      )
    }
    await rm(directory, { recursive: true, force: true })
    await mkdir(directory, { recursive: true, mode: 0o700 })
  }
}
