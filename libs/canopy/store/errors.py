"""Every error of the store. Texts say what to do next; the callers log or show them as they are."""


class StoreError(Exception):
    """The base of everything here."""


class DatabaseInUse(StoreError):
    """Another process (or this one) has the file open."""


class DatabaseCorrupt(StoreError):
    """SQLite cannot read the file. Nothing was moved or changed."""


class DatabaseTooNew(StoreError):
    """A newer release of the code has migrated the file."""


class DatabaseUnusable(StoreError):
    """The file can be neither opened nor created as we need it: rights, a full disk, a file system without WAL."""


class MigrationChanged(StoreError):
    """A migration that the file has already seen reads otherwise now."""


class MigrationFailed(StoreError):
    """A migration's SQL failed; the file is as it was before."""


class MigrationsWrong(StoreError):
    """The code's own list of migrations is not 1, 2, 3 ...; a mistake of the programmer."""


class CacheUnavailable(StoreError):
    """The cache did not answer in time, or refused. What is kept there can be built anew."""


class TooManyKeys(CacheUnavailable):
    """More keys bear the prefix than the caller asked for at most; none are returned."""
