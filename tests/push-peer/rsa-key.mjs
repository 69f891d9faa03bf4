// A new RSA key, as a service account has one.
import { generateKeyPairSync } from "node:crypto";
import { answer } from "./ask.mjs";

const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
answer({
  private_pem: privateKey.export({ type: "pkcs8", format: "pem" }),
  public_der: publicKey.export({ type: "pkcs1", format: "der" }).toString("base64"),
});
