# Java: compiler, threads, collector, processes, files.
cat > A.java <<'J'
import java.nio.file.*; import java.util.*; import java.util.concurrent.*; import java.util.stream.*;
public class A {
  public static void main(String[] a) throws Exception {
    var pool = Executors.newFixedThreadPool(4); var fs = new ArrayList<Future<Long>>();
    for (int i = 1; i <= 8; i++) { final int n = i; fs.add(pool.submit(() -> LongStream.range(0, 2000000L * n).filter(x -> x % 3 == 0).sum())); }
    for (var f : fs) System.out.println(f.get()); pool.shutdown();
    long kept = 0; var list = new LinkedList<byte[]>();
    for (int i = 0; i < 20000; i++) { list.add(new byte[10000]); if (list.size() > 200) list.removeFirst(); kept += list.getLast().length; } System.out.println(kept);
    var p = new ProcessBuilder("sh", "-c", "cat; exit 3").start(); p.getOutputStream().write("in".getBytes()); p.getOutputStream().close();
    System.out.println(new String(p.getInputStream().readAllBytes()) + p.waitFor());
    Files.write(Path.of("f"), List.of("b", "a")); System.out.println(Files.lines(Path.of("f")).sorted().collect(Collectors.joining(",")));
    synchronized (pool) { pool.wait(20); } Thread.sleep(20); int[] z = {}; try { System.out.println(z[0]); } catch (Exception e) { System.out.println(e.getMessage()); }
    Object n = null; try { n.hashCode(); } catch (NullPointerException e) { System.out.println("null"); }
    Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("hook"))); System.exit(5);
  }
}
J
javac A.java && java -Xmx256m A; echo "status $?"
