"""CouchDB for tests: a private real server where one is installed, and a double of it."""
