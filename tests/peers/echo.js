// An HTTP/2 server of Node's: answers with what it was sent. Arguments: certificate, key, port.
const http2 = require("node:http2");
const fs = require("node:fs");

const server = http2.createSecureServer({
  cert: fs.readFileSync(process.argv[2]),
  key: fs.readFileSync(process.argv[3]),
  settings: { maxConcurrentStreams: 20 },
});
server.on("stream", (stream, headers) => {
  const pieces = [];
  stream.on("data", (piece) => pieces.push(piece));
  stream.on("end", () => {
    const body = Buffer.concat(pieces);
    stream.additionalHeaders({ ":status": 103, link: "</x>; rel=preload" });
    stream.respond({ ":status": 200, "x-path": headers[":path"], "x-authority": headers[":authority"] }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": "1" }));
    stream.end(headers[":method"] === "GET" ? Buffer.alloc(Number(headers["x-size"] || 2), "x") : body);
  });
});
server.listen(Number(process.argv[4]), "127.0.0.1");
