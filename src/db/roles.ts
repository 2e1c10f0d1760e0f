// Three roles. The owner owns every table and function and cannot log in; what clients may do is granted to a group; the
// server logs in as a member of it. So the server can read and call functions, and cannot write a table or change the schema.

export const OWNER_ROLE = 'taskomatic_owner'
/** What migrations grant to: `grant select on … to taskomatic_client`. */
export const CLIENT_ROLE = 'taskomatic_client'
export const SERVER_ROLE = 'taskomatic_server'
