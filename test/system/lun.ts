// A block device for the test hosts: what they share beside a directory.

import { execFileSync } from 'node:child_process'
import { mkdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'

/** `image` as a block device `disk0` in a directory that is called `name`: one that all hosts see at one path, as a shared LUN; undefined where the machine cannot make one. */
export async function makeLun(
  name: string,
  image: string
): Promise<{ directory: string; remove: () => Promise<void> } | undefined> {
  const directory = `/dev/${name}`
  try {
    const device = execFileSync('losetup', ['--find', '--show', image], { encoding: 'utf8', stdio: 'pipe' }).trim()
    const remove = async () => {
      execFileSync('losetup', ['--detach', device])
      await rm(directory, { recursive: true, force: true })
    }
    const { rdev } = await stat(device)
    await mkdir(directory)
    execFileSync('mknod', [join(directory, 'disk0'), 'b', String(rdev >> 8), String(rdev & 0xff)])
    return { directory, remove }
  } catch {
    return undefined
  }
}
