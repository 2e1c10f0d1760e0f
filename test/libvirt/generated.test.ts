// The generated files are committed; this finds them stale.

import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { generated } from '../../src/libvirt/generate.ts'

test('the generated wire tables are what the generator makes of wire/*.json', () => {
  const files = generated()
  expect(files.size).toBe(2)
  for (const [file, source] of files) expect(readFileSync(file, 'utf8')).toBe(source)
})
