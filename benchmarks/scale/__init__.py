"""How far one CouchDB carries: costs measured on a real one, and a simulation of many pilots."""
