-- Schemas, and who may look into them. Every table and function belongs to taskomatic_owner, which cannot log in; clients read
-- tables and call functions. Later files grant to taskomatic_client what it may have, object by object.

create schema queue;

grant usage on schema queue to taskomatic_client;

-- PostgreSQL lets everyone execute a new function. Not here.
alter default privileges revoke execute on functions from public;
