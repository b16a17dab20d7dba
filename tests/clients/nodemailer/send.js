// Sends letters with nodemailer, as a program that uses it would: node send.js '{"port": 2525, "lmtp": false, "letters": […]}'
// With "tls": {"ca": FILE} it says STARTTLS and verifies the server; with "auth" and "authMethod" it logs in (see nodemailer's text).
// A letter is {"file", "from", "to": […], "eightBit"}. For each it prints a line of JSON: whom the server took, and its answer.
"use strict";

const fs = require("node:fs");
const nodemailer = require("nodemailer");
const { port, lmtp, tls, auth, authMethod, letters } = JSON.parse(process.argv[2]);

const transport = nodemailer.createTransport({
    host: "127.0.0.1",
    port,
    lmtp,
    name: "client.example",
    secure: false,
    ignoreTLS: !tls,
    requireTLS: Boolean(tls),
    tls: tls && { ca: fs.readFileSync(tls.ca) },
    auth,
    authMethod,
    pool: true, // one connection for all
    maxConnections: 1,
    socketTimeout: 30_000,
});

(async () => {
    for (const { file, from, to, eightBit } of letters) {
        const info = await transport.sendMail({ envelope: { from, to, use8BitMime: eightBit }, raw: { path: file } });
        console.log(JSON.stringify({ accepted: info.accepted, rejected: info.rejected, response: info.response }));
    }
    transport.close();
})().catch((error) => {
    console.error(error);
    process.exit(1);
});
