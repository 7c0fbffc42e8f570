// The stock client of Socket.IO, as a process: it says what it hears, and emits what it is told.
// The word `break` breaks its connection off, as a network would.

import readline from "node:readline";

import { io } from "socket.io-client";

const [url, transports] = process.argv.slice(2);
const socket = io(url, {
  ...(transports && { transports: [transports] }),
  reconnectionDelay: 50,
  reconnectionDelayMax: 200,
});
const say = (...words) => console.log(JSON.stringify(words));
const transport = () => say("transport", socket.io.engine.transport.name);

socket.on("connect", () => {
  say("connect", socket.recovered ? "recovered" : "new");
  transport();
  socket.io.engine.on("upgrade", transport);
});
socket.on("disconnect", () => say("disconnect"));
socket.onAny(say);

for await (const line of readline.createInterface({ input: process.stdin })) {
  const [name, body] = JSON.parse(line);
  if (name === "break") {
    socket.io.engine.close();
    continue;
  }
  socket.emit(name, body, (answer) => say("answer", answer));
}
socket.disconnect();
