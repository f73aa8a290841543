"""What a client believes of its session, by what it was answered: settings, the transaction and its
savepoints, what it has left on its server. Everything that it asks is compared with this."""

# As current_setting() tells them where nobody has set anything.
DEFAULTS = {
    "search_path": '"$user", public',
    "application_name": "",
    "app.tenant": "",
    "app.mood": "",
    "TimeZone": "UTC",
    "IntervalStyle": "postgres",
    "statement_timeout": "0",
    "work_mem": "4MB",
    "role": "none",
}
# Those that PostgreSQL reports when they change.
REPORTED = ("application_name", "TimeZone", "IntervalStyle")
TENANTS = 6
VALUES = {
    "search_path": [f"t{n}" for n in range(TENANTS)] + [f"t{n}, public" for n in range(TENANTS)],
    "TimeZone": ["Europe/Berlin", "Asia/Tokyo", "America/Lima"],
    "IntervalStyle": ["iso_8601", "sql_standard"],
    "statement_timeout": ["50s", "55s"],
    "work_mem": ["5MB", "6MB", "7MB"],
    "role": ["r1", "r2"],
}

# All of it in one column; and the row of the first schema of the search_path that has such a table.
LOOK = "concat_ws('|', {}, (SELECT who FROM mine))".format(", ".join(
    f"coalesce(current_setting('{name}', true), '')" for name in DEFAULTS))

# What a session may leave on a server, as that sees it.
LEFT = ("pg_backend_pid()",
        "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())",
        "(SELECT count(*) FROM pg_listening_channels())",
        "(SELECT count(*) FROM pg_prepared_statements WHERE from_sql)",
        "(SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema())",
        "(SELECT count(*) FROM pg_cursors WHERE is_holdable)")
KINDS = ("locks", "channels", "prepared", "tables", "cursors")


def first_schema(search_path):
    return search_path.split(",")[0] if search_path.startswith("t") else "public"


def look_at(settings):
    return "|".join([*(settings[name] for name in DEFAULTS), first_schema(settings["search_path"])])


def draw(r, name, client):
    """A value for a setting; those that are free have the client's name in them."""
    if name in VALUES:
        return r.choice(VALUES[name])
    return f"{client}-{r.randrange(1000)}"


class Session:
    """Of one connection."""

    def __init__(self, given):
        self.base = {**DEFAULTS, **given}  # what RESET leads to
        self.held, self.local = dict(self.base), {}
        self.status = "I"
        self.stack = []  # (savepoint's name, held, local, how many entries of the ledger were open)
        self.open = []   # entries of the ledger in the transaction at hand
        self.names = {}  # prepared statements by the protocol: the literal in their text
        self.left = {kind: set() for kind in KINDS}

    def now(self):
        return {**self.held, **self.local}

    def look(self):
        return look_at(self.now())

    def pinned(self):
        return any(self.left.values())

    def counts(self):
        return [str(len(self.left[kind])) for kind in KINDS]

    def snapshot(self, name):
        self.stack.append((name, dict(self.held), dict(self.local), len(self.open)))

    # ---- what has come true

    def set(self, name, value):
        self.held[name] = value
        self.local.pop(name, None)

    def set_local(self, name, value):
        if self.status == "T":  # else PostgreSQL warns, and does nothing
            self.local[name] = value

    def reset(self, name):
        self.set(name, self.base[name])

    def begin(self):
        self.snapshot("")
        self.status = "T"

    def back_to(self, name):
        """Returns the entries that are not to be in the ledger any more."""
        while self.stack[-1][0] != name:
            self.stack.pop()
        _, held, local, count = self.stack[-1]
        self.held, self.local = dict(held), dict(local)
        lost, self.open = self.open[count:], self.open[:count]
        self.status = "T"
        return lost

    def release(self, name):
        while self.stack.pop()[0] != name:
            pass

    def end(self, commits):
        """Returns the entries of the transaction that has ended."""
        if not commits and self.stack:
            self.held = dict(self.stack[0][1])
        self.local, self.stack, self.status = {}, [], "I"
        entries, self.open = self.open, []
        return entries

    def discard_all(self):
        self.held, self.local, self.names = dict(self.base), {}, {}
        for kind in KINDS:
            self.left[kind].clear()
