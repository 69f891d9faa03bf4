// Opens a push as the browser does, and verifies its sender as the push service does.
import { createECDH, createPublicKey, verify } from "node:crypto";
import ece from "http_ece";
import { answer, asked } from "./ask.mjs";

const push = await asked();
const keys = createECDH("prime256v1");
keys.setPrivateKey(push.private_key, "base64url");
const plain = ece.decrypt(Buffer.from(push.body, "base64"), {
  version: "aes128gcm",
  privateKey: keys,
  authSecret: push.auth,
});

const [, token, senderKey] = /^vapid t=([^,]+), ?k=(\S+)$/.exec(push.authorization);
const [header, claims, signature] = token.split(".");
const point = Buffer.from(senderKey, "base64url");
if (point.length !== 65 || point[0] !== 4) throw new Error("the sender's key is no uncompressed point");
const key = createPublicKey({
  format: "jwk",
  key: {
    kty: "EC",
    crv: "P-256",
    x: point.subarray(1, 33).toString("base64url"),
    y: point.subarray(33).toString("base64url"),
  },
});
const json = (part) => JSON.parse(Buffer.from(part, "base64url").toString());
if (json(header).alg !== "ES256") throw new Error("the token is not signed with ES256");
const signed = verify(
  "sha256",
  Buffer.from(`${header}.${claims}`),
  { key, dsaEncoding: "ieee-p1363" },
  Buffer.from(signature, "base64url"),
);
if (!signed) throw new Error("the signature does not fit the sender's key");
answer({ plain: JSON.parse(plain.toString()), claims: json(claims), sender_key: senderKey });
