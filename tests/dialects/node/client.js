// The stock client of Socket.IO, as a process: it says what it hears, and emits what it is told.

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
  say("connect");
  transport();
  socket.io.engine.on("upgrade", transport);
});
socket.on("disconnect", () => say("disconnect"));
socket.onAny(say);

for await (const line of readline.createInterface({ input: process.stdin })) {
  const [name, body] = JSON.parse(line);
  socket.emit(name, body, (answer) => say("answer", answer));
}
socket.disconnect();
