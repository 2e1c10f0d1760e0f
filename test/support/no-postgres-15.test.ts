// Stands in for the queue's suite where there is no PostgreSQL 15, so that what is skipped is said.
import { test } from 'vitest'

test.skip('the queue on PostgreSQL 15: /usr/lib/postgresql/15/bin is not on this machine', () => undefined)
