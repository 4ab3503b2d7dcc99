"""`celeriac demo`: a worker that does real work, in one command and with nothing else to install."""
