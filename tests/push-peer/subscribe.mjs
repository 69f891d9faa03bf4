// The keys that a browser makes when it subscribes.
import { createECDH, randomBytes } from "node:crypto";
import { answer } from "./ask.mjs";

const keys = createECDH("prime256v1");
keys.generateKeys();
answer({
  p256dh: keys.getPublicKey("base64url"),
  auth: randomBytes(16).toString("base64url"),
  private_key: keys.getPrivateKey("base64url"),
});
