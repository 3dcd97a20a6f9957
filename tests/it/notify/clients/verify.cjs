// Reads an event a line, verifies it as receivers do, and prints its type; a changed body must not pass.
const { Webhook } = require("standardwebhooks");

for (const line of require("fs").readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  const event = JSON.parse(line);
  const webhook = new Webhook(event.secret);
  console.log(webhook.verify(event.body, event.headers).type);
  let passed = true;
  try {
    webhook.verify(event.body + " ", event.headers);
  } catch {
    passed = false;
  }
  if (passed) throw new Error("a changed body passed");
}
