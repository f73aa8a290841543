import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.ArrayList;
import java.sql.SQLException;

/** What every check shares: its row as one JSON object a line, users at once, comparisons. */
final class Report {
  static final int USERS = 8;
  static final int ROUNDS = 12;

  interface Body {
    Object run() throws Exception;
  }

  interface Step {
    void run() throws Exception;
  }

  interface User {
    void run(int i) throws Exception;
  }

  /** The driver has no such thing. */
  static final class Absent extends RuntimeException {
    Absent(String why) {
      super(why);
    }
  }

  private final String driver;
  private final String version;
  private final List<String> picked;

  Report(String driver, String version) {
    this.driver = driver;
    this.version = version;
    String checks = System.getenv("CHECKS");
    picked = checks == null || checks.isEmpty() ? null : Arrays.asList(checks.split(","));
  }

  void check(String name, Body body) {
    if (picked != null && !picked.contains(name)) return;
    String ok = "true";
    String detail;
    try {
      detail = Objects.toString(body.run(), "");
    } catch (Absent absent) {
      ok = "null";
      detail = absent.getMessage();
    } catch (Throwable error) {
      ok = "false";
      String state = error instanceof SQLException e ? e.getSQLState() + " " : "";
      String where = Arrays.stream(error.getStackTrace())
          .filter(frame -> frame.getClassName().startsWith("Checks")).findFirst()
          .map(frame -> "line " + frame.getLineNumber() + ": ").orElse("");
      detail = where + error.getClass().getSimpleName() + ": " + state + error.getMessage();
    }
    if (detail.length() > 300) detail = detail.substring(0, 300);
    System.out.printf("{\"driver\": \"%s\", \"version\": \"%s\", \"check\": \"%s\", \"ok\": %s, "
        + "\"detail\": \"%s\"}%n", driver, version, name, ok, escape(detail));
    System.out.flush();
  }

  private static String escape(String text) {
    return text.replace("\\", "\\\\").replace("\"", "\\\"").replaceAll("\\s+", " ");
  }

  static void same(Object got, Object want) {
    if (!Objects.equals(got, want)) {
      String text = "got " + got + ", want " + want;
      throw new AssertionError(text.substring(0, Math.min(text.length(), 200)));
    }
  }

  static void raises(String state, Step step) throws Exception {
    try {
      step.run();
    } catch (SQLException error) {
      if (!state.equals(error.getSQLState())) throw error;
      return;
    }
    throw new AssertionError("no error where " + state + " was due");
  }

  static void everyUser(User body) throws Exception {
    ExecutorService threads = Executors.newFixedThreadPool(USERS);
    List<Future<?>> running = new ArrayList<>();
    for (int i = 0; i < USERS; i++) {
      int user = i;
      running.add(threads.submit((Callable<Void>) () -> {
        body.run(user);
        return null;
      }));
    }
    threads.shutdown();
    for (Future<?> one : running) {
      try {
        one.get();
      } catch (java.util.concurrent.ExecutionException error) {
        if (error.getCause() instanceof Exception cause) throw cause;
        throw error;
      }
    }
  }

  /** Every third round of a user is rolled back. */
  static boolean kept(int r) {
    return r % 3 != 2;
  }

  static long keptUpTo(int r) {
    long n = 0;
    for (int i = 0; i <= r; i++) n += kept(i) ? 1 : 0;
    return n;
  }
}
