-- What the server's login may call acts with the owner's rights, as all of the queue's functions that it may call.
alter function queue.cap_of(text) security definer;
