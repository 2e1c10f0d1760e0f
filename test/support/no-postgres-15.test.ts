import { test } from 'vitest'

test.skip('the queue on PostgreSQL 15: /usr/lib/postgresql/15/bin is not on this machine', () => undefined)
