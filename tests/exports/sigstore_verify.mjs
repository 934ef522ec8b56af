// Asks npm's @sigstore/verify about envelopes: node sigstore_verify.mjs PUBLIC_KEY ENVELOPE…; prints one word a file.
import { createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { bundleFromJSON } from "@sigstore/bundle";
import { toSignedEntity, toTrustMaterial, Verifier } from "@sigstore/verify";

const [keyFile, ...files] = process.argv.slice(2);
const publicKey = createPublicKey(readFileSync(keyFile));
const trusted = { tlogs: [], ctlogs: [], timestampAuthorities: [], certificateAuthorities: [] };
const material = toTrustMaterial(trusted, () => ({ publicKey, validFor: () => true }));
const verifier = new Verifier(material, { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 });

for (const file of files) {
  try {
    const bundle = bundleFromJSON({
      mediaType: "application/vnd.dev.sigstore.bundle.v0.3+json",
      verificationMaterial: { publicKey: { hint: "" }, tlogEntries: [] },
      dsseEnvelope: JSON.parse(readFileSync(file)),
    });
    verifier.verify(toSignedEntity(bundle));
    console.log("accepted");
  } catch (error) {
    console.log("refused", error.code ?? error.name, error.message.split("\n")[0]);
  }
}
