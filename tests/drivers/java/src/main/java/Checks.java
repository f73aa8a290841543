import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.net.URI;
import java.sql.Connection;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.Arrays;
import java.util.Properties;
import java.util.UUID;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

/**
 * pgjdbc with its defaults, with prepareThreshold=1 and autosave=always, or under HikariCP, which
 * lends out its 5 connections.
 */
public final class Checks {
  private static String url;
  private static final Properties settings = new Properties();
  private static HikariDataSource pool;

  private static Connection connect() throws SQLException {
    return pool != null ? pool.getConnection() : DriverManager.getConnection(url, settings);
  }

  private static Connection direct(String key, String value) throws SQLException {
    Properties own = new Properties();
    own.putAll(settings);
    if (key != null) own.setProperty(key, value);
    return DriverManager.getConnection(url, own);
  }

  private static Object one(Connection c, String sql, Object... args) throws SQLException {
    try (PreparedStatement s = c.prepareStatement(sql)) {
      for (int i = 0; i < args.length; i++) s.setObject(i + 1, args[i]);
      try (ResultSet rows = s.executeQuery()) {
        rows.next();
        return rows.getObject(1);
      }
    }
  }

  private static void run(Connection c, String sql, Object... args) throws SQLException {
    if (args.length == 0) {
      try (Statement s = c.createStatement()) {
        s.execute(sql);
      }
      return;
    }
    try (PreparedStatement s = c.prepareStatement(sql)) {
      for (int i = 0; i < args.length; i++) s.setObject(i + 1, args[i]);
      s.execute();
    }
  }

  public static void main(String[] argv) throws Exception {
    URI where = URI.create(System.getenv("DATABASE_URL"));
    url = "jdbc:postgresql://" + where.getHost() + ":" + where.getPort() + where.getPath();
    settings.setProperty("user", where.getUserInfo());
    String version = org.postgresql.util.DriverInfo.DRIVER_VERSION;
    String name = "pgjdbc";
    if (argv[0].equals("prepare1")) {
      settings.setProperty("prepareThreshold", "1");
      settings.setProperty("autosave", "always");
      name = "pgjdbc, prepareThreshold=1, autosave=always";
    }
    if (argv[0].equals("hikari")) {
      HikariConfig config = new HikariConfig();
      config.setJdbcUrl(url);
      config.setUsername(where.getUserInfo());
      config.setMaximumPoolSize(5);
      config.setConnectionTimeout(15_000);
      pool = new HikariDataSource(config);
      name = "HikariCP";
      version = versionOf(HikariDataSource.class);
    }
    Report report = new Report(name, version);
    report.check("query", Checks::query);
    report.check("types", Checks::types);
    report.check("transaction", Checks::transaction);
    report.check("savepoint", Checks::savepoint);
    report.check("error", Checks::error);
    report.check("prepared", Checks::prepared);
    report.check("pipeline", Checks::pipeline);
    report.check("copy", Checks::copy);
    report.check("large", Checks::large);
    report.check("cursor", Checks::cursor);
    report.check("cancel", Checks::cancel);
    report.check("reconnect", Checks::reconnect);
    report.check("schema_change", Checks::schemaChange);
    report.check("session_set", Checks::sessionSet);
    report.check("temp_table", Checks::tempTable);
    report.check("advisory_lock", Checks::advisoryLock);
    report.check("listen_notify", Checks::listenNotify);
    report.check("concurrent", Checks::concurrent);
    System.exit(0);
  }

  /** The version in the name of the jar that the class came from. */
  private static String versionOf(Class<?> type) {
    String jar = type.getProtectionDomain().getCodeSource().getLocation().getPath();
    return jar.replaceAll(".*-([0-9][^/-]*)\\.jar", "$1");
  }

  private static Object query() throws Exception {
    try (Connection c = connect()) {
      for (int n = 0; n < 20; n++) {
        Report.same(one(c, "SELECT 1 + 1"), 2);
        Report.same(one(c, "SELECT ?::int * 2", n), 2 * n);
      }
      try (Statement s = c.createStatement();
          ResultSet rows = s.executeQuery("SELECT g FROM generate_series(1, 1000) g")) {
        int count = 0;
        while (rows.next()) count++;
        Report.same(count, 1000);
      }
      Report.same(c.isValid(2), true);
      Report.same(c.getMetaData().getTables(null, "pg_catalog", "pg_class", null).next(), true);
    }
    return null;
  }

  private static Object types() throws Exception {
    try (Connection c = connect()) {
      OffsetDateTime when = OffsetDateTime.of(2024, 2, 29, 12, 30, 15, 123456000, ZoneOffset.UTC);
      for (int n = 0; n < 8; n++) {  // past the threshold of 5, where results turn binary
        Report.same(one(c, "SELECT ?::int8", 1L << 60), 1L << 60);
        Report.same(one(c, "SELECT ?::float8", 1.5), 1.5);
        Report.same(one(c, "SELECT ?::bool", true), true);
        Report.same(one(c, "SELECT ?::numeric", new BigDecimal("12345.6789")),
            new BigDecimal("12345.6789"));
        Report.same(one(c, "SELECT ?::text", "snow ☃ 'q' \\"), "snow ☃ 'q' \\");
        Report.same(Arrays.toString((byte[]) one(c, "SELECT ?::bytea", new byte[] {0, 1, -1})),
            "[0, 1, -1]");
        Report.same(one(c, "SELECT ?::date", Date.valueOf("2024-02-29")),
            Date.valueOf("2024-02-29"));
        Report.same(one(c, "SELECT ?::uuid", new UUID(0, 5)), new UUID(0, 5));
        Report.same(one(c, "SELECT ?::text", new Object[] {null}), null);
        Report.same(one(c, "SELECT ?::jsonb", "{\"a\": 1}").toString(), "{\"a\": 1}");
        try (PreparedStatement s = c.prepareStatement("SELECT ?::timestamptz, ?::int4[]")) {
          s.setObject(1, when);
          s.setArray(2, c.createArrayOf("int4", new Integer[] {1, 2, null}));
          ResultSet rows = s.executeQuery();
          rows.next();
          Report.same(rows.getObject(1, OffsetDateTime.class).toInstant(), when.toInstant());
          Report.same(Arrays.toString((Object[]) rows.getArray(2).getArray()), "[1, 2, null]");
        }
      }
    }
    return null;
  }

  private static Object transaction() throws Exception {
    try (Connection c = connect()) {
      run(c, "CREATE TABLE tx (n int)");
      c.setAutoCommit(false);
      for (int n = 0; n < 10; n++) {
        run(c, "INSERT INTO tx VALUES (?)", n);
        if (n % 2 == 1) {
          c.commit();
        } else {
          c.rollback();
        }
      }
      c.setAutoCommit(true);
      Report.same(one(c, "SELECT sum(n) FROM tx"), 25L);
      c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
      c.setReadOnly(true);
      c.setAutoCommit(false);
      Report.same(one(c, "SHOW transaction_isolation"), "serializable");
      Report.raises("25006", () -> run(c, "INSERT INTO tx VALUES (?)", 1));
      c.rollback();
      c.setAutoCommit(true);
      c.setReadOnly(false);
      c.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
      Report.same(one(c, "SHOW transaction_isolation"), "read committed");
    }
    return null;
  }

  private static Object savepoint() throws Exception {
    try (Connection c = connect()) {
      run(c, "CREATE TABLE sp (n int PRIMARY KEY)");
      c.setAutoCommit(false);
      run(c, "INSERT INTO sp VALUES (?)", 1);
      for (int n = 0; n < 7; n++) {
        Savepoint here = c.setSavepoint();
        Report.raises("23505", () -> run(c, "INSERT INTO sp VALUES (?)", 1));
        c.rollback(here);
      }
      run(c, "INSERT INTO sp VALUES (?)", 2);
      c.commit();
      c.setAutoCommit(true);
      Report.same(one(c, "SELECT count(*) FROM sp"), 2L);
    }
    return null;
  }

  private static Object error() throws Exception {
    try (Connection c = connect()) {
      for (int n = 0; n < 8; n++) {
        Report.raises("42601", () -> run(c, "SELEC 1"));
        Report.raises("22012", () -> one(c, "SELECT 1 / ?::int", 0));
        Report.raises("42P01", () -> run(c, "SELECT * FROM no_such_table"));
        Report.same(one(c, "SELECT ?::text", "still here"), "still here");
      }
    }
    return null;
  }

  private static Object prepared() throws Exception {
    try (Connection a = connect(); Connection b = connect()) {
      // S_1, S_2, ... mean other texts in each session.
      try (PreparedStatement one = a.prepareStatement("SELECT ?::int + 1000");
          PreparedStatement two = b.prepareStatement("SELECT ?::text || 'x'")) {
        for (int n = 0; n < 15; n++) {
          one.setInt(1, n);
          ResultSet rows = one.executeQuery();
          rows.next();
          Report.same(rows.getInt(1), n + 1000);
          two.setString(1, "" + n);
          rows = two.executeQuery();
          rows.next();
          Report.same(rows.getString(1), n + "x");
        }
      }
      for (int again = 0; again < 7; again++) {  // past the 256 that it keeps
        for (int n = 0; n < 300; n++) Report.same(one(a, "SELECT ?::int + " + n, 1), n + 1);
      }
    }
    return null;
  }

  private static Object pipeline() throws Exception {
    try (Connection c = connect()) {
      run(c, "CREATE TABLE pl (n int PRIMARY KEY)");
      for (int round = 0; round < 4; round++) {
        try (PreparedStatement s = c.prepareStatement("INSERT INTO pl VALUES (?)")) {
          for (int n = 0; n < 500; n++) {
            s.setInt(1, round * 500 + n);
            s.addBatch();
          }
          Report.same(s.executeBatch().length, 500);
          s.setInt(1, 100_000 + round);
          s.addBatch();
          s.setInt(1, 1);
          s.addBatch();
          Report.raises("23505", s::executeBatch);
        }
        Report.same(one(c, "SELECT count(*) FROM pl WHERE n < 100000"), 500L * (round + 1));
      }
    }
    return "addBatch and executeBatch";
  }

  private static Object copy() throws Exception {
    try (Connection c = connect()) {
      run(c, "CREATE TABLE cp (n int, t text)");
      CopyManager copies = c.unwrap(PGConnection.class).getCopyAPI();
      StringBuilder rows = new StringBuilder();
      for (int n = 0; n < 20000; n++) rows.append(n).append("\trow ").append(n).append('\n');
      Report.same(copies.copyIn("COPY cp FROM STDIN", new StringReader(rows.toString())), 20000L);
      StringWriter out = new StringWriter();
      copies.copyOut("COPY (SELECT * FROM cp ORDER BY n) TO STDOUT", out);
      Report.same(out.toString().contentEquals(rows), true);
      Report.raises("22P02",
          () -> copies.copyIn("COPY cp FROM STDIN", new StringReader("x\ty\n")));
      Report.same(one(c, "SELECT count(*) FROM cp"), 20000L);
    }
    return null;
  }

  private static Object large() throws Exception {
    try (Connection c = connect()) {
      String text = "0123456789abcdef".repeat(65536 * 5);
      Report.same(text.equals(one(c, "SELECT ?::text", text)), true);
      try (Statement s = c.createStatement();
          ResultSet rows = s.executeQuery(
              "SELECT repeat('x', 1000) FROM generate_series(1, 20000)")) {
        long sum = 0;
        while (rows.next()) sum += rows.getString(1).length();
        Report.same(sum, 20_000_000L);
      }
    }
    return null;
  }

  private static Object cursor() throws Exception {
    try (Connection c = connect()) {
      c.setAutoCommit(false);
      for (int n = 0; n < 7; n++) {
        try (PreparedStatement s =
            c.prepareStatement("SELECT g FROM generate_series(1, ?::int) g")) {
          s.setFetchSize(100);
          s.setInt(1, 1000);
          ResultSet rows = s.executeQuery();
          long sum = 0;
          while (rows.next()) sum += rows.getInt(1);
          Report.same(sum, 500500L);
        }
        c.commit();
      }
      c.setAutoCommit(true);
    }
    return "setFetchSize: portals";
  }

  private static Object cancel() throws Exception {
    try (Connection c = connect()) {
      for (int n = 0; n < 3; n++) {
        try (Statement s = c.createStatement()) {
          Thread soon = new Thread(() -> {
            try {
              Thread.sleep(300);
              s.cancel();
            } catch (Exception ignored) {
              // the check below then sees no cancel
            }
          });
          soon.start();
          Report.raises("57014", () -> s.execute("SELECT pg_sleep(20)"));
          soon.join();
        }
        try (Statement s = c.createStatement()) {
          s.setQueryTimeout(1);
          Report.raises("57014", () -> s.execute("SELECT pg_sleep(20)"));
        }
        Report.same(one(c, "SELECT 1"), 1);
      }
    }
    return null;
  }

  private static Object reconnect() throws Exception {
    for (int n = 0; n < 25; n++) {
      try (Connection c = connect()) {
        Report.same(one(c, "SELECT ?::int", n), n);
        if (pool != null && n % 5 == 0) pool.evictConnection(c);
      }
    }
    return null;
  }

  private static Object schemaChange() throws Exception {
    int errors = 0;
    try (Connection c = connect(); Connection other = connect()) {
      run(other, "CREATE TABLE shape (a int)");
      run(other, "INSERT INTO shape VALUES (1)");
      for (String change : new String[] {"", "ADD COLUMN b int DEFAULT 7", "DROP COLUMN b"}) {
        if (!change.isEmpty()) run(other, "ALTER TABLE shape " + change);
        int columns = change.startsWith("ADD") ? 2 : 1;
        for (int n = 0; n < 8; n++) {
          try (PreparedStatement s = c.prepareStatement("SELECT * FROM shape WHERE a = ?")) {
            s.setInt(1, 1);
            ResultSet rows = s.executeQuery();
            rows.next();
            Report.same(rows.getMetaData().getColumnCount(), columns);
            Report.same(rows.getInt(columns), columns == 2 ? 7 : 1);
          } catch (SQLException refused) {
            Report.same(refused.getSQLState(), "0A000");
            errors++;
          }
        }
      }
      // HikariCP throws a connection away on 0A000, so inside a transaction there is no going on.
      if (pool != null) return note(errors);
      c.setAutoCommit(false);
      run(other, "ALTER TABLE shape ADD COLUMN c text DEFAULT 'x'");
      for (int n = 0; n < 3; n++) {  // with autosave, healed by pgjdbc inside the transaction too
        try (PreparedStatement s = c.prepareStatement("SELECT * FROM shape WHERE a = ?")) {
          s.setInt(1, 1);
          ResultSet rows = s.executeQuery();
          Report.same(rows.getMetaData().getColumnCount(), 2);
        } catch (SQLException refused) {
          Report.same(refused.getSQLState(), "0A000");
          errors++;
          c.rollback();
        }
      }
      c.rollback();
      c.setAutoCommit(true);
    }
    return note(errors);
  }

  private static Object note(int errors) {
    return errors > 0 ? errors + " times 0A000 reached the application" : null;
  }

  private static Object sessionSet() throws Exception {
    try (Connection a = connect(); Connection b = connect()) {
      run(a, "SET search_path TO pg_catalog");
      a.setSchema("pg_catalog");
      run(a, "SET app.tenant = 'a'");
      Report.same(one(b, "SELECT set_config('app.tenant', ?, false)", "b"), "b");
      run(b, "SET TIME ZONE 'America/Lima'");
      for (int n = 0; n < 8; n++) {
        Report.same(one(a, "SHOW search_path"), "pg_catalog");
        Report.same(one(b, "SHOW search_path"), "\"$user\", public");
        Report.same(one(a, "SELECT current_setting('app.tenant')"), "a");
        Report.same(one(b, "SELECT current_setting('app.tenant')"), "b");
        Report.same(one(b, "SHOW timezone"), "America/Lima");
      }
      run(a, "RESET ALL");
      run(b, "RESET ALL");
      Report.same(one(a, "SHOW search_path"), "\"$user\", public");
    }
    try (Connection c = direct("options", "-c statement_timeout=7s -c search_path=pg_catalog")) {
      for (int n = 0; n < 4; n++) {
        Report.same(one(c, "SHOW statement_timeout"), "7s");
        Report.same(one(c, "SHOW search_path"), "pg_catalog");
      }
    }
    return null;
  }

  private static Object tempTable() throws Exception {
    try (Connection a = connect(); Connection b = connect()) {
      run(a, "CREATE TEMP TABLE mine (n int)");
      for (int n = 0; n < 7; n++) {
        run(a, "INSERT INTO mine VALUES (?)", n);
        Report.raises("42P01", () -> one(b, "SELECT count(*) FROM mine"));
      }
      Report.same(one(a, "SELECT count(*) FROM mine"), 7L);
      run(a, "DISCARD ALL");
      Report.raises("42P01", () -> one(a, "SELECT count(*) FROM mine"));
    }
    return null;
  }

  private static Object advisoryLock() throws Exception {
    try (Connection a = connect(); Connection b = connect()) {
      one(a, "SELECT pg_advisory_lock(42)");
      for (int n = 0; n < 7; n++) {
        Report.same(one(b, "SELECT pg_try_advisory_lock(?)", 42), false);
        Report.same(one(a, "SELECT 1"), 1);
      }
      Report.same(one(a, "SELECT pg_advisory_unlock(?)", 42), true);
    }
    return null;
  }

  private static Object listenNotify() throws Exception {
    try (Connection a = connect(); Connection b = connect()) {
      run(a, "LISTEN news");
      for (int n = 0; n < 3; n++) {
        one(b, "SELECT pg_notify('news', ?)", "" + n);
        var notes = a.unwrap(PGConnection.class).getNotifications(5000);
        Report.same(notes != null && notes.length == 1, true);
        Report.same(notes[0].getParameter(), "" + n);
      }
      run(a, "UNLISTEN *");
    }
    return null;
  }

  private static Object concurrent() throws Exception {
    try (Connection c = direct(null, null)) {
      run(c, "CREATE TABLE conc (u int, r int)");
    }
    Report.everyUser(i -> {
      for (int r = 0; r < Report.ROUNDS; r++) {
        try (Connection c = connect()) {
          run(c, "SET app.who = 'user-" + i + "'");
          Report.same(one(c, "SELECT current_setting('app.who')"), "user-" + i);
          Report.same(one(c, "SELECT ?::int + 1", r), r + 1);
          c.setAutoCommit(false);
          run(c, "INSERT INTO conc VALUES (?, ?)", i, r);
          if (Report.kept(r)) {
            c.commit();
          } else {
            c.rollback();
          }
          c.setAutoCommit(true);
          if (r % 4 == 0) Report.raises("22012", () -> one(c, "SELECT 1 / ?::int", 0));
          Report.same(one(c, "SELECT count(*) FROM conc WHERE u = ?", i), Report.keptUpTo(r));
        }
      }
    });
    try (Connection c = direct(null, null)) {
      Report.same(one(c, "SELECT count(*) FROM conc"),
          Report.USERS * Report.keptUpTo(Report.ROUNDS - 1));
    }
    return null;
  }
}
