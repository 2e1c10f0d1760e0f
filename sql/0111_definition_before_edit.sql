-- What a VM's definition was before it was last edited, and the digest of what the edit made of it: the edit is taken back only
-- while nothing else has changed it since.
alter table inventory.definition
  add column before_edit bytea,
  add column edited_digest text,
  alter column sealed drop not null;
