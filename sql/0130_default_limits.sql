-- What an operator would want of limits before he has thought of it; `limit set` changes them.
insert into queue.cap (key, cap) values ('migrations-out/*', 2), ('migrations-in/*', 2), ('starts/*', 8), ('storage/*', 4);
