# Node: event loop, child processes, worker threads, streams, unix sockets.
cat > t.js <<'J'
const { execFileSync, spawn } = require("child_process"), fs = require("fs"), net = require("net"), zlib = require("zlib");
const { Worker } = require("worker_threads"), crypto = require("crypto");
const say = (...a) => console.log(...a);
(async () => {
  say(execFileSync("sh", ["-c", "echo from a child"]).toString().trim());
  const c = spawn("cat"); c.stdin.end("x".repeat(300000)); let n = 0;
  for await (const d of c.stdout) n += d.length; say("through cat", n);
  const ws = [1, 2, 3].map(i => new Promise(r => new Worker(`
    const { parentPort, workerData } = require("worker_threads"); let s = 0;
    for (let i = 0; i < 3e6; i++) s += i % (workerData + 1); parentPort.postMessage(s)`, { eval: true, workerData: i }).on("message", r)));
  say("workers", ...await Promise.all(ws));
  const server = net.createServer(s => s.pipe(s)).listen("./sock"); await new Promise(r => server.once("listening", r));
  const s = net.connect("./sock"); s.write("echoed"); say((await new Promise(r => s.once("data", r))).toString()); s.destroy(); server.close();
  fs.writeFileSync("f", "1\n2\n"); const w = fs.watch(".", () => {}); w.close(); say(fs.readFileSync("f", "utf8").split("\n").length);
  await fs.promises.rename("f", "g"); say(fs.existsSync("f"), fs.statSync("g").size);
  say(zlib.gunzipSync(zlib.gzipSync("z".repeat(1000))).length, crypto.createHash("sha256").update("a").digest("hex").slice(0, 8));
  await new Promise(r => crypto.pbkdf2("p", "s", 20000, 32, "sha256", (e, k) => { say("pbkdf2", k.toString("hex").slice(0, 8)); r() }));
  let t = 0; await new Promise(r => { const i = setInterval(() => { if (++t === 5) { clearInterval(i); r() } }, 10) }); say("ticks", t);
  process.on("SIGUSR2", () => { say("signal"); process.exit(6) }); process.kill(process.pid, "SIGUSR2"); setTimeout(() => {}, 5000);
})();
J
node t.js; echo "status $?"
