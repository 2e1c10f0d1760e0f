// Sizes, counts, durations, times and pairs as people write them on a command line.
import { describe, expect, test } from 'vitest'
import { parseBytes, parseCount, parseDurationMs, parseMiB, parsePairs, parseTime } from '../../src/cli/parse.ts'

describe('sizes', () => {
  test.each([
    ['4GiB', 4 * 2 ** 30],
    ['512MiB', 512 * 2 ** 20],
    ['512 mib', 512 * 2 ** 20],
    ['1.5TiB', 1.5 * 2 ** 40],
    ['100TiB', 100 * 2 ** 40],
    ['2G', 2 * 2 ** 30],
    ['10GB', 10 ** 10],
    ['1048576B', 2 ** 20]
  ])('%s is %d bytes', (text, bytes) => expect(parseBytes(text, '--size')).toBe(bytes))

  test.each([
    ['4', /"4" has no unit/, /4GiB or 4MiB/],
    ['-4GiB', /"-4GiB" is not above zero/, /above zero/],
    ['0MiB', /"0MiB" is not above zero/, /above zero/],
    ['4XiB', /unknown unit/, /KiB, MiB/],
    ['lots', /"lots" is not a size/, /4GiB/],
    ['', /"" is not a size/, /4GiB/],
    ['9999999PiB', /larger than can be counted/, /at most/]
  ])('%s is refused with the value, the rule and the way out', (text, message, next) => {
    expect(() => parseBytes(text, '--size')).toThrow(
      expect.objectContaining({
        exit: 'usage',
        message: expect.stringMatching(message),
        next: expect.stringMatching(next)
      })
    )
  })

  test('memory comes in whole MiB', () => {
    expect(parseMiB('2GiB', '--memory')).toBe(2048)
    expect(() => parseMiB('1000KB', '--memory')).toThrow(/not a whole number of MiB/)
  })
})

test('a count is a whole number within its limits', () => {
  expect(parseCount('4', '--vcpus')).toBe(4)
  for (const bad of ['-1', '0', '1.5', '1e3', 'x', '', '99999999999999999999'])
    expect(() => parseCount(bad, '--vcpus')).toThrow(/whole number/)
  expect(() => parseCount('101', '--priority', { min: -100, max: 100 })).toThrow(/from -100 to 100/)
})

test('durations add up, and a bare number is seconds', () => {
  expect(parseDurationMs('90s', '--timeout')).toBe(90_000)
  expect(parseDurationMs('1h30m', '--timeout')).toBe(5_400_000)
  expect(parseDurationMs('2', '--timeout')).toBe(2000)
  for (const bad of ['', 's', '5 parsecs', '1h,2m', '-5s'])
    expect(() => parseDurationMs(bad, '--timeout')).toThrow(/not a duration/)
})

test('a time of day that has passed is tomorrow', () => {
  const now = new Date(2026, 2, 1, 12, 0)
  expect(parseTime('13:30', '--at', now)).toBe(new Date(2026, 2, 1, 13, 30).toISOString())
  expect(parseTime('11:30', '--at', now)).toBe(new Date(2026, 2, 2, 11, 30).toISOString())
  expect(parseTime('+2h', '--at', now)).toBe(new Date(2026, 2, 1, 14, 0).toISOString())
  expect(parseTime('2026-03-05T01:02Z', '--at', now)).toBe('2026-03-05T01:02:00.000Z')
  for (const bad of ['soon', '25:00', '2026-99-99', '03/01'])
    expect(() => parseTime(bad, '--at', now)).toThrow(/not a time/)
})

test('pairs take known keys, each once', () => {
  expect(parsePairs('size=10GiB,store=nfs1,ro', '--disk', ['size', 'store', 'ro'])).toEqual(
    new Map([
      ['size', '10GiB'],
      ['store', 'nfs1'],
      ['ro', '']
    ])
  )
  expect(() => parsePairs('sise=1', '--disk', ['size'])).toThrow(/"sise=1" is not understood/)
  expect(() => parsePairs('size=1,size=2', '--disk', ['size'])).toThrow(/given twice/)
})
