// JSON as it goes into and comes out of jsonb columns.

export type Json = null | boolean | number | string | Json[] | JsonObject
export type JsonObject = { [key: string]: Json }
