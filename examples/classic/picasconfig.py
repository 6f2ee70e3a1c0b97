"""Where the pool is and who you are: the four variables that every script here reads.

As it stands, this file asks PiCaS for them: the environment (PICAS_POOL, PICAS_USERNAME,
PICAS_PASSWORD), then the configuration file of ``picas config``, then the classic
``~/.config/picas/conf.yml``, and if there is nothing, the pool is the file ``picas.db`` in this
folder, for which no server is needed.

You may write the four values here instead, as in classic PiCaS:

    PICAS_HOST_URL = "https://couchdb.example.org:6984"
    PICAS_DATABASE = "mypool"
    PICAS_USERNAME = "me"
    PICAS_PASSWORD = "secret"

Then keep the file to yourself: ``chmod 600 picasconfig.py``.
"""

from picas.config import CouchLocation, load

_settings = load()

if isinstance(_settings.pool, CouchLocation):
    PICAS_HOST_URL = _settings.pool.base_url
    PICAS_DATABASE = _settings.pool.database
    PICAS_USERNAME = _settings.username
    PICAS_PASSWORD = _settings.password.reveal() if _settings.password else ""
else:
    PICAS_HOST_URL = _settings.pool.url
    PICAS_DATABASE = "picas"
    PICAS_USERNAME = None
    PICAS_PASSWORD = ""
