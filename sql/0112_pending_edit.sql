-- What an edit is about to replace: only once the host has taken the edit is the one before it forgotten.
alter table inventory.definition add column pending_edit bytea;
