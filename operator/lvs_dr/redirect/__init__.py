"""The redirector: answers HTTP requests with the address of one real server, so that bodies bypass the director."""
