"""Which errors a client may hear that did nothing wrong, and when: whatever is not here is a
violation. Docs: docs/troubleshooting.md, "Errors that the application sees"."""

import dataclasses
import re

# The least that box.py's configurations ever give these.
ACQUIRE_S = 3.0
QUERY_S = 1.0
IDLE_TRANSACTION_S = 1.5
# Clocks are read on both sides of a loopback.
CLOCK_S = 0.02


@dataclasses.dataclass
class Moment:
    """What the client knows when an error comes."""
    took: float               # since it has sent
    quiet: float              # between its last two requests, or since the last
    asked_cancel: bool        # of its own, and that may not have landed before it sent
    has_canceled: bool        # ever, on this connection
    statement_timeout: float  # of its own, in seconds; 0: none
    limited: bool             # its database has queryTimeout and idleTransactionTimeout at times
    removable: bool           # its database comes and goes
    failed: bool              # its transaction has failed
    behind_copy: bool         # it has sent something behind a COPY that may fail
    entering: bool            # it is signing in


# (SQLSTATE, what the message says, when, why)
ALLOWED = (
    ("57P01", "terminating connection due to administrator command", lambda m: True,
     "pg_terminate_backend(), or PostgreSQL shuts down; each is the end of one server"),
    ("57P02", "", lambda m: True, "a backend was killed, and PostgreSQL ends all"),
    ("08006", "the server was lost under", lambda m: True, "its connection was reset or cut"),
    ("08006", "could not be restored on another server", lambda m: True, "the same, some times"),
    ("57P01", "Carpool is shutting down", lambda m: True, "Carpool was restarted"),
    ("57P01", "killed at the console", lambda m: True, "KILL"),
    ("53300", "pool.acquireTimeout", lambda m: m.took >= ACQUIRE_S, "no server was free"),
    ("08001", "pool.acquireTimeout", lambda m: m.took >= ACQUIRE_S, "PostgreSQL was away"),
    ("57P03", "pool.acquireTimeout", lambda m: m.took >= ACQUIRE_S, "the same"),
    ("57014", "due to user request", lambda m: m.asked_cancel, "its own cancel, and nobody else's"),
    ("57014", "takes no cancel", lambda m: m.has_canceled or (m.limited and m.took >= QUERY_S),
     "its own cancel, or queryTimeout's, hung; its query may be answered by then"),
    ("57014", "due to pool.queryTimeout", lambda m: m.limited and m.took >= QUERY_S, "its name"),
    ("57014", "due to statement timeout",
     lambda m: 0 < m.statement_timeout <= m.took, "its own statement_timeout"),
    ("25P02", "", lambda m: m.failed, "its transaction had failed before"),
    ("25P03", "pool.idleTransactionTimeout",
     lambda m: m.limited and m.quiet >= IDLE_TRANSACTION_S, "idleTransactionTimeout"),
    ("08P01", "cannot be told apart", lambda m: m.behind_copy,
     "what is pipelined behind a COPY that fails cannot be counted"),
    ("3D000", "no entry of `databases`", lambda m: m.removable and m.entering,
     "a reload has taken its database away"),
)

# Those that mean that a server was lost: each lost server costs one client at most.
LOSSES = re.compile("57P01 terminating|57P02|08006")


def judge(sqlstate, said, moment):
    """None where the client may hear this now; else why not."""
    moment = dataclasses.replace(moment, took=moment.took + CLOCK_S, quiet=moment.quiet + CLOCK_S)
    known = [when for code, words, when, _ in ALLOWED if code == sqlstate and words in said]
    if any(when(moment) for when in known):
        return None
    return f"{sqlstate} may not come " + ("now: " + repr(moment) if known else "at all")
