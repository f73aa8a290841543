/* libpq itself: its pipeline mode above all, single-row mode, COPY, cancel and notifications.
 * The same named checks as everywhere; one JSON object a line. A check returns NULL, or why not. */
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { kUsers = 8, kRounds = 12, kTextMax = 300 };

static const char *url;

/* Where a check fails, it says why and leaves: connections go with the process. */
#define FAIL(...)                                   \
  do {                                              \
    static __thread char why[kTextMax];             \
    int at = snprintf(why, sizeof why, "line %d: ", __LINE__); \
    snprintf(why + at, sizeof why - (size_t)at, __VA_ARGS__);  \
    return why;                                     \
  } while (0)
#define TRY(expression)                  \
  do {                                   \
    const char *why_not = (expression);  \
    if (why_not != NULL) return why_not; \
  } while (0)

static PGconn *connect_now(void) {
  PGconn *c = PQconnectdb(url);
  if (PQstatus(c) != CONNECTION_OK) {
    fprintf(stderr, "%s", PQerrorMessage(c));
    exit(1);
  }
  PQsetNoticeProcessor(c, NULL, NULL);
  return c;
}

/* The result is `want`: a value for rows, an SQLSTATE for errors, "" for commands. Frees it. */
static const char *expect_at(int line, PGconn *c, PGresult *r, const char *want) {
  static __thread char why[kTextMax];
  const char *got = "";
  if (r == NULL) {
    snprintf(why, sizeof why, "line %d: no result: %s", line, PQerrorMessage(c));
    return why;
  }
  ExecStatusType status = PQresultStatus(r);
  if (status == PGRES_FATAL_ERROR) got = PQresultErrorField(r, PG_DIAG_SQLSTATE);
  if (status == PGRES_PIPELINE_ABORTED) got = "aborted";
  if (status == PGRES_TUPLES_OK && PQntuples(r) > 0) got = PQgetvalue(r, 0, 0);
  if (got == NULL) got = "(no SQLSTATE)";
  bool same = strcmp(got, want) == 0;
  if (!same) {
    snprintf(why, sizeof why, "line %d: got %.60s, want %.60s %.120s", line, got, want,
             PQresultErrorMessage(r));
  }
  PQclear(r);
  return same ? NULL : why;
}
#define EXPECT(c, r, want) TRY(expect_at(__LINE__, c, r, want))
#define DO(c, sql, want) EXPECT(c, PQexec(c, sql), want)

static PGresult *exec_int(PGconn *c, const char *sql, int n) {
  char text[16];
  const char *values[] = {text};
  snprintf(text, sizeof text, "%d", n);
  return PQexecParams(c, sql, 1, NULL, values, NULL, NULL, 0);
}

static PGresult *run_int(PGconn *c, const char *name, int n) {
  char text[16];
  const char *values[] = {text};
  snprintf(text, sizeof text, "%d", n);
  return PQexecPrepared(c, name, 1, values, NULL, NULL, 0);
}

static const char *number(int n) {
  static __thread char text[16];
  snprintf(text, sizeof text, "%d", n);
  return text;
}

static const char *query(void) {
  PGconn *c = connect_now();
  for (int n = 0; n < 20; n++) {
    DO(c, "SELECT 1 + 1", "2");
    DO(c, "SELECT 1; SELECT 'last'", "last");
    EXPECT(c, exec_int(c, "SELECT $1::int * 2", n), number(2 * n));
  }
  /* Single-row mode. */
  if (!PQsendQuery(c, "SELECT g FROM generate_series(1, 1000) g")) FAIL("%s", PQerrorMessage(c));
  PQsetSingleRowMode(c);
  long sum = 0;
  for (PGresult *r; (r = PQgetResult(c)) != NULL; PQclear(r)) {
    if (PQntuples(r) == 1) sum += atol(PQgetvalue(r, 0, 0));
  }
  if (sum != 500500) FAIL("sum %ld", sum);
  PQfinish(c);
  return NULL;
}

static const char *types(void) {
  PGconn *c = connect_now();
  static const char *const kinds[][2] = {
      {"int2", "7"}, {"int8", "1152921504606846976"}, {"float8", "1.5"}, {"bool", "t"},
      {"numeric", "12345.6789"}, {"text", "snow \xe2\x98\x83 'q' \\"}, {"bytea", "\\x0001ff"},
      {"date", "2024-02-29"}, {"interval", "3 days 00:00:42"}, {"int4[]", "{1,2,NULL}"},
      {"uuid", "00000000-0000-0000-0000-000000000005"}, {"jsonb", "{\"a\": [1, null]}"}};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    char sql[64];
    const char *values[] = {kinds[i][1]};
    snprintf(sql, sizeof sql, "SELECT $1::%s", kinds[i][0]);
    EXPECT(c, PQexecParams(c, sql, 1, NULL, values, NULL, NULL, 0), kinds[i][1]);
  }
  /* Binary both ways, with the type given: int4. */
  const char bytes[] = {0, 0, 1, 2};
  const char *values[] = {bytes};
  const int lengths[] = {4}, formats[] = {1};
  const Oid oids[] = {23};
  PGresult *r = PQexecParams(c, "SELECT $1 + 1", 1, oids, values, lengths, formats, 1);
  if (PQntuples(r) != 1 || memcmp(PQgetvalue(r, 0, 0), "\0\0\1\3", 4) != 0) FAIL("binary int4");
  PQclear(r);
  PQfinish(c);
  return NULL;
}

static const char *transaction(void) {
  PGconn *c = connect_now();
  DO(c, "CREATE TABLE tx (n int)", "");
  for (int n = 0; n < 10; n++) {
    DO(c, "BEGIN", "");
    if (PQtransactionStatus(c) != PQTRANS_INTRANS) FAIL("not in a transaction");
    EXPECT(c, exec_int(c, "INSERT INTO tx VALUES ($1)", n), "");
    DO(c, n % 2 ? "COMMIT" : "ROLLBACK", "");
    if (PQtransactionStatus(c) != PQTRANS_IDLE) FAIL("still in a transaction");
  }
  DO(c, "SELECT sum(n) FROM tx", "25");
  DO(c, "BEGIN; INSERT INTO tx VALUES (1000)", "");
  PQfinish(c);
  c = connect_now();
  DO(c, "SELECT sum(n) FROM tx", "25");
  PQfinish(c);
  return NULL;
}

static const char *savepoint(void) {
  PGconn *c = connect_now();
  DO(c, "CREATE TABLE sp (n int PRIMARY KEY)", "");
  DO(c, "BEGIN", "");
  EXPECT(c, exec_int(c, "INSERT INTO sp VALUES ($1)", 1), "");
  DO(c, "SAVEPOINT one", "");
  EXPECT(c, exec_int(c, "INSERT INTO sp VALUES ($1)", 1), "23505");
  DO(c, "SELECT 1", "25P02");
  DO(c, "ROLLBACK TO one", "");
  EXPECT(c, exec_int(c, "INSERT INTO sp VALUES ($1)", 2), "");
  DO(c, "COMMIT", "");
  DO(c, "SELECT count(*) FROM sp", "2");
  PQfinish(c);
  return NULL;
}

static const char *error(void) {
  PGconn *c = connect_now();
  for (int n = 0; n < 8; n++) {
    DO(c, "SELEC 1", "42601");
    EXPECT(c, exec_int(c, "SELECT 1 / $1::int", 0), "22012");
    EXPECT(c, run_int(c, "never_prepared", 1), "26000");
    EXPECT(c, PQprepare(c, "broken", "SELECT * FROM no_such_table", 0, NULL), "42P01");
    EXPECT(c, exec_int(c, "SELECT $1::int", n), number(n));
  }
  PQfinish(c);
  return NULL;
}

static const char *prepared(void) {
  PGconn *a = connect_now(), *b = connect_now();
  EXPECT(a, PQprepare(a, "q", "SELECT $1::int + 1000", 0, NULL), "");
  EXPECT(b, PQprepare(b, "q", "SELECT $1::int + 2000", 0, NULL), "");
  EXPECT(a, PQprepare(a, "q", "SELECT $1::int + 1000", 0, NULL), "42P05");
  for (int n = 0; n < 12; n++) {
    EXPECT(a, run_int(a, "q", n), number(n + 1000));
    EXPECT(b, run_int(b, "q", n), number(n + 2000));
    PGresult *r = PQdescribePrepared(a, "q");
    if (PQnparams(r) != 1 || PQnfields(r) != 1) FAIL("describe: %s", PQresultErrorMessage(r));
    PQclear(r);
  }
  /* The unnamed statement: prepared in one round trip, run in others. */
  EXPECT(a, PQprepare(a, "", "SELECT $1::int + 3000", 0, NULL), "");
  for (int n = 0; n < 4; n++) {
    DO(b, "SELECT 1", "1");
    EXPECT(a, run_int(a, "", n), number(n + 3000));
  }
  DO(a, "DEALLOCATE q", "");
  EXPECT(a, run_int(a, "q", 1), "26000");
  EXPECT(b, run_int(b, "q", 1), "2001");
  EXPECT(a, PQprepare(a, "q", "SELECT $1::int + 4000", 0, NULL), "");
  EXPECT(a, run_int(a, "q", 1), "4001");
  DO(a, "DEALLOCATE ALL", "");
  EXPECT(a, run_int(a, "q", 1), "26000");
  char name[10001]; /* PostgreSQL takes any name here */
  memset(name, 'n', sizeof name - 1);
  name[sizeof name - 1] = 0;
  EXPECT(a, PQprepare(a, name, "SELECT $1::int", 0, NULL), "");
  EXPECT(a, run_int(a, name, 5), "5");
  PQfinish(a);
  PQfinish(b);
  return NULL;
}

/* Reads one pipelined statement's result and the NULL that follows it. */
static const char *next_is(int line, PGconn *c, const char *want) {
  TRY(expect_at(line, c, PQgetResult(c), want));
  PGresult *end = PQgetResult(c);
  if (end != NULL) FAIL("no end after the result of line %d", line);
  return NULL;
}
#define NEXT(c, want) TRY(next_is(__LINE__, c, want))

static const char *sync_is(PGconn *c) {
  PGresult *r = PQgetResult(c);
  if (PQresultStatus(r) != PGRES_PIPELINE_SYNC) FAIL("no sync: %s", PQerrorMessage(c));
  PQclear(r);
  return NULL;
}

static void send_int(PGconn *c, const char *sql, int n) {
  const char *values[] = {number(n)};
  PQsendQueryParams(c, sql, 1, NULL, values, NULL, NULL, 0);
}

static void send_prepared(PGconn *c, const char *name, int n) {
  const char *values[] = {number(n)};
  PQsendQueryPrepared(c, name, 1, values, NULL, NULL, 0);
}

static const char *pipeline(void) {
  PGconn *c = connect_now(), *other = connect_now();
  DO(c, "CREATE TABLE pl (n int PRIMARY KEY)", "");
  for (int round = 0; round < 5; round++) {
    char name[16];
    snprintf(name, sizeof name, "p%d", round);
    PQenterPipelineMode(c);
    /* Prepared and run within one pipeline, then a sync between each. */
    PQsendPrepare(c, name, "SELECT $1::int + 1", 0, NULL);
    for (int n = 0; n < 50; n++) send_prepared(c, name, n);
    PQpipelineSync(c);
    for (int n = 0; n < 50; n++) {
      send_prepared(c, name, n);
      PQpipelineSync(c);
    }
    NEXT(c, "");
    for (int n = 0; n < 50; n++) NEXT(c, number(n + 1));
    TRY(sync_is(c));
    for (int n = 0; n < 50; n++) {
      NEXT(c, number(n + 1));
      TRY(sync_is(c));
    }
    /* An error in the middle: the rest up to the sync is skipped and nothing of it stays. */
    send_int(c, "INSERT INTO pl VALUES ($1)", 100 + round);
    send_int(c, "SELECT 1 / $1::int", 0);
    PQsendPrepare(c, "skipped", "SELECT $1::int + 7", 0, NULL);
    send_int(c, "INSERT INTO pl VALUES ($1)", 200 + round);
    PQpipelineSync(c);
    send_prepared(c, name, 6); /* after the sync all is well */
    PQpipelineSync(c);
    send_prepared(c, "skipped", 1);
    PQpipelineSync(c);
    NEXT(c, "");
    NEXT(c, "22012");
    NEXT(c, "aborted");
    NEXT(c, "aborted");
    TRY(sync_is(c));
    NEXT(c, "7");
    TRY(sync_is(c));
    NEXT(c, "26000");
    TRY(sync_is(c));
    /* A transaction within one pipeline, with a flush in the middle. */
    send_int(c, "INSERT INTO pl VALUES ($1)", 300 + round);
    PQsendFlushRequest(c);
    PQflush(c);
    NEXT(c, "");
    PQsendQueryParams(c, "BEGIN", 0, NULL, NULL, NULL, NULL, 0);
    send_int(c, "INSERT INTO pl VALUES ($1)", 400 + round);
    PQsendQueryParams(c, "ROLLBACK", 0, NULL, NULL, NULL, NULL, 0);
    PQpipelineSync(c);
    NEXT(c, "");
    NEXT(c, "");
    NEXT(c, "");
    TRY(sync_is(c));
    if (!PQexitPipelineMode(c)) FAIL("%s", PQerrorMessage(c));
    DO(other, "SELECT 1", "1"); /* moves the servers around */
    DO(c, "SELECT count(*) FROM pl WHERE n BETWEEN 100 AND 299", "0");
  }
  PQfinish(c);
  PQfinish(other);
  return NULL;
}

static const char *copy(void) {
  PGconn *c = connect_now();
  DO(c, "CREATE TABLE cp (n int, t text)", "");
  PGresult *r = PQexec(c, "COPY cp FROM STDIN");
  if (PQresultStatus(r) != PGRES_COPY_IN) FAIL("%s", PQerrorMessage(c));
  PQclear(r);
  for (int n = 0; n < 20000; n++) {
    char row[64];
    int size = snprintf(row, sizeof row, "%d\trow %d\n", n, n);
    if (PQputCopyData(c, row, size) != 1) FAIL("%s", PQerrorMessage(c));
  }
  PQputCopyEnd(c, NULL);
  EXPECT(c, PQgetResult(c), "");
  PQgetResult(c);
  r = PQexec(c, "COPY (SELECT * FROM cp ORDER BY n) TO STDOUT");
  if (PQresultStatus(r) != PGRES_COPY_OUT) FAIL("%s", PQerrorMessage(c));
  PQclear(r);
  int rows = 0;
  for (char *row; PQgetCopyData(c, &row, 0) > 0; PQfreemem(row)) rows++;
  if (rows != 20000) FAIL("%d rows", rows);
  EXPECT(c, PQgetResult(c), "");
  PQgetResult(c);
  /* Given up by the client, and refused by the server. */
  PQclear(PQexec(c, "COPY cp FROM STDIN"));
  PQputCopyEnd(c, "no more");
  EXPECT(c, PQgetResult(c), "57014");
  PQgetResult(c);
  PQclear(PQexec(c, "COPY cp FROM STDIN"));
  PQputCopyData(c, "x\ty\n", 4);
  PQputCopyEnd(c, NULL);
  EXPECT(c, PQgetResult(c), "22P02");
  PQgetResult(c);
  DO(c, "SELECT count(*) FROM cp", "20000");
  PQfinish(c);
  return NULL;
}

static const char *large(void) {
  PGconn *c = connect_now();
  size_t size = 5u << 20;
  char *text = malloc(size + 1);
  memset(text, 'x', size);
  text[size] = 0;
  const char *values[] = {text};
  PGresult *r = PQexecParams(c, "SELECT $1::text", 1, NULL, values, NULL, NULL, 0);
  if (PQntuples(r) != 1 || strcmp(PQgetvalue(r, 0, 0), text) != 0) FAIL("%s", PQerrorMessage(c));
  PQclear(r);
  free(text);
  r = PQexec(c, "SELECT repeat('x', 1000) FROM generate_series(1, 20000)");
  if (PQntuples(r) != 20000) FAIL("%s", PQerrorMessage(c));
  PQclear(r);
  PQfinish(c);
  return NULL;
}

static const char *cursor(void) {
  PGconn *c = connect_now(), *other = connect_now();
  DO(c, "BEGIN", "");
  DO(c, "DECLARE walk CURSOR FOR SELECT g FROM generate_series(1, 1000) g", "");
  for (int n = 0; n < 10; n++) DO(c, "FETCH 100 FROM walk", number(100 * n + 1));
  DO(c, "COMMIT", "");
  DO(c, "FETCH 1 FROM walk", "34000");
  DO(c, "DECLARE held CURSOR WITH HOLD FOR SELECT g FROM generate_series(1, 10) g", "");
  for (int n = 1; n <= 5; n++) {
    DO(other, "SELECT 1", "1");
    DO(c, "FETCH 1 FROM held", number(n));
  }
  DO(c, "CLOSE held", "");
  DO(c, "FETCH 1 FROM held", "34000");
  PQfinish(c);
  PQfinish(other);
  return NULL;
}

static void *cancel_soon(void *argument) {
  PGcancel *token = argument;
  char why[256];
  usleep(300 * 1000);
  PQcancel(token, why, sizeof why);
  PQfreeCancel(token);
  return NULL;
}

static const char *cancel(void) {
  PGconn *c = connect_now();
  for (int n = 0; n < 3; n++) {
    pthread_t thread;
    pthread_create(&thread, NULL, cancel_soon, PQgetCancel(c));
    PGresult *r = PQexec(c, "SELECT pg_sleep(20)");
    pthread_join(thread, NULL);
    EXPECT(c, r, "57014");
    DO(c, "SELECT 1", "1");
    /* A cancel while idle does nothing. */
    PGcancel *token = PQgetCancel(c);
    char why[256];
    if (!PQcancel(token, why, sizeof why)) FAIL("%s", why);
    PQfreeCancel(token);
    usleep(50 * 1000);
    DO(c, "SELECT 2", "2");
  }
  PQfinish(c);
  return NULL;
}

static const char *reconnect(void) {
  for (int n = 0; n < 25; n++) {
    PGconn *c = connect_now();
    EXPECT(c, exec_int(c, "SELECT $1::int", n), number(n));
    if (n % 5 == 0) {
      PQreset(c);
      DO(c, "SELECT 1", "1");
    }
    PQfinish(c);
  }
  return NULL;
}

static char detail[kTextMax];

static const char *schema_change(void) {
  PGconn *c = connect_now(), *other = connect_now();
  DO(other, "CREATE TABLE shape (a int)", "");
  DO(other, "INSERT INTO shape VALUES (1)", "");
  EXPECT(c, PQprepare(c, "s", "SELECT * FROM shape WHERE a = $1", 0, NULL), "");
  int refused = 0;
  static const char *const changes[] = {"SELECT 1", "ALTER TABLE shape ADD COLUMN b int DEFAULT 7",
                                        "ALTER TABLE shape DROP COLUMN b"};
  for (int i = 0; i < 3; i++) {
    PQclear(PQexec(other, changes[i]));
    for (int n = 0; n < 4; n++) {
      PGresult *r = run_int(c, "s", 1);
      const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
      if (state != NULL && strcmp(state, "0A000") == 0) {
        refused++;
      } else if (PQntuples(r) != 1 || PQnfields(r) != (i == 1 ? 2 : 1)) {
        FAIL("%d columns after %s %s", PQnfields(r), changes[i], PQresultErrorMessage(r));
      }
      PQclear(r);
    }
  }
  /* Prepared again, as drivers do after 0A000, it must work. */
  PQclear(PQexec(other, changes[1]));
  PQclear(run_int(c, "s", 1));
  DO(c, "DEALLOCATE s", "");
  EXPECT(c, PQprepare(c, "s", "SELECT * FROM shape WHERE a = $1", 0, NULL), "");
  for (int n = 0; n < 4; n++) {
    DO(other, "SELECT 1", "1");
    PGresult *r = run_int(c, "s", 1);
    if (PQnfields(r) != 2) FAIL("prepared again: %s", PQresultErrorMessage(r));
    PQclear(r);
  }
  if (refused) {
    snprintf(detail, sizeof detail, "%d times 0A000 reached the application", refused);
  }
  PQfinish(c);
  PQfinish(other);
  return NULL;
}

static const char *session_set(void) {
  PGconn *a = connect_now(), *b = connect_now();
  DO(a, "SET TIME ZONE 'Asia/Tokyo'", "");
  DO(b, "SET TIME ZONE 'America/Lima'", "");
  DO(b, "SELECT set_config('app.tenant', 'b', false)", "b");
  DO(a, "SET search_path = pg_catalog", "");
  PQsetClientEncoding(a, "LATIN1");
  for (int n = 0; n < 5; n++) {
    DO(a, "SHOW timezone", "Asia/Tokyo");
    DO(b, "SHOW timezone", "America/Lima");
    DO(a, "SHOW search_path", "pg_catalog");
    DO(b, "SHOW search_path", "\"$user\", public");
    DO(b, "SELECT current_setting('app.tenant')", "b");
    DO(a, "SHOW client_encoding", "LATIN1");
    if (strcmp(PQparameterStatus(a, "TimeZone"), "Asia/Tokyo") != 0) FAIL("ParameterStatus of a");
    if (strcmp(PQparameterStatus(b, "TimeZone"), "America/Lima") != 0) FAIL("ParameterStatus of b");
  }
  DO(a, "BEGIN; SET TIME ZONE 'Europe/Oslo'", "");
  DO(a, "ROLLBACK", "");
  DO(b, "SELECT 1", "1");
  DO(a, "SHOW timezone", "Asia/Tokyo");
  DO(a, "DISCARD ALL", "");
  DO(a, "SHOW search_path", "\"$user\", public");
  PQfinish(a);
  PQfinish(b);
  return NULL;
}

static const char *temp_table(void) {
  PGconn *a = connect_now(), *b = connect_now();
  DO(a, "CREATE TEMP TABLE mine (n int)", "");
  for (int n = 0; n < 5; n++) {
    EXPECT(a, exec_int(a, "INSERT INTO mine VALUES ($1)", n), "");
    DO(b, "SELECT count(*) FROM mine", "42P01");
  }
  DO(a, "SELECT count(*) FROM mine", "5");
  PQfinish(a);
  PQfinish(b);
  return NULL;
}

static const char *advisory_lock(void) {
  PGconn *a = connect_now(), *b = connect_now();
  DO(a, "SELECT pg_advisory_lock(42)", "");
  for (int n = 0; n < 5; n++) {
    DO(b, "SELECT pg_try_advisory_lock(42)", "f");
    DO(a, "SELECT 1", "1");
  }
  PQfinish(a);
  for (int n = 0; n < 100; n++) {
    PGresult *r = PQexec(b, "SELECT pg_try_advisory_lock(42)");
    bool got = PQntuples(r) == 1 && *PQgetvalue(r, 0, 0) == 't';
    PQclear(r);
    if (got) {
      PQfinish(b);
      return NULL;
    }
    usleep(50 * 1000);
  }
  FAIL("the lock outlived its owner");
}

static const char *listen_notify(void) {
  PGconn *a = connect_now(), *b = connect_now();
  DO(a, "LISTEN news", "");
  for (int n = 0; n < 3; n++) {
    EXPECT(b, exec_int(b, "SELECT pg_notify('news', $1::text)", n), "");
    PGnotify *note = NULL;
    for (int waited = 0; note == NULL && waited < 50; waited++) {
      struct pollfd fd = {.fd = PQsocket(a), .events = POLLIN};
      poll(&fd, 1, 100);
      PQconsumeInput(a);
      note = PQnotifies(a);
    }
    if (note == NULL || strcmp(note->extra, number(n)) != 0) FAIL("no notification %d", n);
    PQfreemem(note);
  }
  DO(a, "UNLISTEN *", "");
  PQfinish(a);
  PQfinish(b);
  return NULL;
}

static const char *user(int i) {
  PGconn *c = connect_now();
  char sql[64], who[16];
  int kept = 0;
  snprintf(who, sizeof who, "user-%d", i);
  snprintf(sql, sizeof sql, "SET app.who = '%s'", who);
  DO(c, sql, "");
  EXPECT(c, PQprepare(c, "q", "SELECT $1::int + 1", 0, NULL), "");
  snprintf(sql, sizeof sql, "INSERT INTO conc VALUES (%d, $1)", i);
  EXPECT(c, PQprepare(c, "i", sql, 0, NULL), "");
  snprintf(sql, sizeof sql, "SELECT count(*) FROM conc WHERE u = %d", i);
  for (int r = 0; r < kRounds; r++) {
    DO(c, "SELECT current_setting('app.who')", who);
    EXPECT(c, run_int(c, "q", r), number(r + 1));
    DO(c, "BEGIN", "");
    EXPECT(c, run_int(c, "i", r), "");
    DO(c, r % 3 != 2 ? "COMMIT" : "ROLLBACK", "");
    kept += r % 3 != 2;
    if (r % 4 == 0) EXPECT(c, exec_int(c, "SELECT 1 / $1::int", 0), "22012");
    DO(c, sql, number(kept));
  }
  PQfinish(c);
  return NULL;
}

static void *user_thread(void *argument) {
  const char *why = user((int)(long)argument);
  return why != NULL ? strdup(why) : NULL;
}

static const char *concurrent(void) {
  PGconn *c = connect_now();
  DO(c, "CREATE TABLE conc (u int, r int)", "");
  pthread_t threads[kUsers];
  for (long i = 0; i < kUsers; i++) pthread_create(&threads[i], NULL, user_thread, (void *)i);
  char *failed = NULL;
  for (int i = 0; i < kUsers; i++) {
    void *why;
    pthread_join(threads[i], &why);
    if (why != NULL) failed = why;
  }
  if (failed != NULL) return failed;
  DO(c, "SELECT count(*) FROM conc", number(kUsers * kRounds * 2 / 3));
  PQfinish(c);
  return NULL;
}

static void print_json(const char *text) {
  for (; *text; text++) {
    if (*text == '"' || *text == '\\') putchar('\\');
    putchar((unsigned char)*text < ' ' ? ' ' : *text);
  }
}

int main(void) {
  static const struct {
    const char *name;
    const char *(*body)(void);
  } checks[] = {{"query", query}, {"types", types}, {"transaction", transaction},
                {"savepoint", savepoint}, {"error", error}, {"prepared", prepared},
                {"pipeline", pipeline}, {"copy", copy}, {"large", large}, {"cursor", cursor},
                {"cancel", cancel}, {"reconnect", reconnect}, {"schema_change", schema_change},
                {"session_set", session_set}, {"temp_table", temp_table},
                {"advisory_lock", advisory_lock}, {"listen_notify", listen_notify},
                {"concurrent", concurrent}};
  url = getenv("DATABASE_URL");
  const char *picked = getenv("CHECKS");
  for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
    char wanted[64], all[1024];
    snprintf(wanted, sizeof wanted, ",%s,", checks[i].name);
    snprintf(all, sizeof all, ",%s,", picked ? picked : "");
    if (picked != NULL && *picked && strstr(all, wanted) == NULL) continue;
    detail[0] = 0;
    const char *why = checks[i].body();
    int version = PQlibVersion();
    printf("{\"driver\": \"libpq, pipeline mode\", \"version\": \"%d.%d\", \"check\": \"%s\", ",
           version / 10000, version % 10000, checks[i].name);
    printf("\"ok\": %s, \"detail\": \"", why ? "false" : "true");
    print_json(why ? why : detail);
    printf("\"}\n");
    fflush(stdout);
  }
  return 0;
}
