// The clients that others use, sending what ours sends to the same stand-in. Prints the processor time of the pushes.
import { createHash, randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import https from "node:https";

const require = createRequire(import.meta.url);
const channel = process.argv[2];
const settings = JSON.parse(process.env.TODOKE_PUSH_CLIENT);
const title = "予約が確定しました";
const body = "ひまわり保育園 2026年12月1日（火） 10:00〜12:30の予約が確定しました。";
const link = "https://todoke.example.jp/reservations/1";
const tag = (number) => createHash("sha256").update(`reservation:${number}`).digest("base64url").slice(0, 32);

/** Sends `n` messages by `send(number)`, at most `at_once` under way. */
async function sendEach(n, send) {
  let next = 0;
  const worker = async () => {
    while (next < n) await send(next++);
  };
  await Promise.all(Array.from({ length: settings.at_once }, worker));
}

const clients = {
  // Its HTTP/2 path: sendEach with up to 500 messages. The host is fixed in the package, so the connection is led
  // to the stand-in, and the access token is the stand-in's.
  async fcm() {
    const http2 = require("node:http2");
    const connect = http2.connect;
    http2.connect = (_url, options, listener) => {
      const session = connect(settings.url, { ...options, ca: settings.roots }, listener);
      const request = session.request;
      // The package writes the scheme as `https:`, which Google forgives and servers by the book do not.
      session.request = function (headers, options) {
        headers[":scheme"] = "https";
        return request.call(this, headers, options);
      };
      return session;
    };
    const { initializeApp } = require("firebase-admin/app");
    const { getMessaging } = require("firebase-admin/messaging");
    const token = await accessToken();
    const credential = { getAccessToken: async () => ({ access_token: token, expires_in: 3600 }) };
    const messaging = getMessaging(initializeApp({ projectId: "test-project", credential }));
    const message = (number) => ({
      token: "d".repeat(163),
      data: { message_id: randomUUID(), kind: "notification", tag: tag(number), link, badge: "3", receipt: "receipt-token" },
      notification: { title, body },
      android: {
        collapseKey: tag(number), priority: "high", ttl: 3_600_000,
        notification: { tag: tag(number), notificationCount: 3 },
      },
      apns: {
        headers: { "apns-push-type": "alert", "apns-priority": "10", "apns-expiration": "1795244400", "apns-collapse-id": tag(number) },
        payload: { aps: { badge: 3, sound: "default" } },
      },
      webpush: { headers: { TTL: "3600", Urgency: "high", Topic: tag(number) }, notification: { tag: tag(number), silent: false }, fcmOptions: { link } },
      fcmOptions: { analyticsLabel: "reservation.confirmed" },
    });
    return async (n) => {
      const batch = Math.min(500, settings.at_once);
      for (let first = 0; first < n; first += batch) {
        const numbers = Array.from({ length: Math.min(batch, n - first) }, (_, at) => first + at);
        const { failureCount, responses } = await messaging.sendEach(numbers.map(message));
        if (failureCount > 0) throw responses.find((response) => !response.success).error;
      }
    };
  },

  async apns() {
    const apn = require("@parse/node-apn");
    const provider = new apn.Provider({
      token: { key: settings.key, keyId: settings.key_id, teamId: settings.team_id },
      address: "localhost", port: settings.port, ca: settings.roots, production: false,
    });
    const note = (number) => {
      const note = new apn.Notification();
      note.topic = settings.topic;
      note.id = randomUUID();
      note.collapseId = tag(number);
      note.expiry = 1795244400;
      note.priority = 10;
      note.pushType = "alert";
      note.alert = { title, body };
      note.badge = 3;
      note.sound = "default";
      note.threadId = tag(number);
      note.mutableContent = 1;
      note.payload = { message_id: note.id, kind: "notification", tag: tag(number), link, receipt: "receipt-token" };
      return note;
    };
    const device = "a1".repeat(32);
    return (n) =>
      sendEach(n, async (number) => {
        const { failed } = await provider.send(note(number), device);
        if (failed.length > 0) throw new Error(JSON.stringify(failed[0]));
      });
  },

  async web_push() {
    const webPush = require("web-push");
    const agent = new https.Agent({ keepAlive: true, maxSockets: 32, ca: settings.roots });
    const subscription = { endpoint: `${settings.url}/push/subscription-1`, keys: { p256dh: settings.p256dh, auth: settings.auth } };
    const vapidDetails = { subject: "mailto:desk@todoke.example.jp", publicKey: settings.public_key, privateKey: settings.private_key };
    return (n) =>
      sendEach(n, (number) => {
        const payload = { message_id: randomUUID(), kind: "notification", tag: tag(number), title, body, link, badge: 3, receipt: "receipt-token" };
        return webPush.sendNotification(subscription, JSON.stringify(payload), {
          vapidDetails, TTL: 3600, urgency: "high", topic: tag(number), agent,
        });
      });
  },
};

/** An access token of the stand-in, asked for as the Google library does. */
async function accessToken() {
  const { sign } = await import("node:crypto");
  const account = JSON.parse(settings.account);
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const iat = Math.floor(Date.now() / 1000);
  const claims = {
    iss: account.client_email, scope: "https://www.googleapis.com/auth/firebase.messaging",
    aud: account.token_uri, iat, exp: iat + 3600,
  };
  const text = `${part({ alg: "RS256", typ: "JWT", kid: account.private_key_id })}.${part(claims)}`;
  const signature = sign("sha256", Buffer.from(text), account.private_key).toString("base64url");
  const form = `grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=${text}.${signature}`;
  return new Promise((resolve, reject) => {
    const request = https.request(settings.token_url, { method: "POST", ca: settings.roots }, async (response) => {
      let answer = "";
      for await (const chunk of response) answer += chunk;
      resolve(JSON.parse(answer).access_token);
    });
    request.on("error", reject).end(form);
  });
}

const send = await clients[channel]();
await send(Math.ceil(settings.pushes / 10));
const started = process.hrtime.bigint();
const before = process.cpuUsage();
await send(settings.pushes);
const { user, system } = process.cpuUsage(before);
const wall = Number((process.hrtime.bigint() - started) / 1000n);
process.stdout.write(JSON.stringify({ pushes: settings.pushes, cpu_us: user + system, wall_us: wall }), () => process.exit(0));
