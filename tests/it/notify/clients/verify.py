"""Reads an event a line, verifies it as receivers do, and prints its type; a changed body must not pass."""
import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

for line in sys.stdin:
    event = json.loads(line)
    webhook = Webhook(event["secret"])
    print(webhook.verify(event["body"], event["headers"])["type"])
    try:
        webhook.verify(event["body"] + " ", event["headers"])
    except WebhookVerificationError:
        continue
    sys.exit("a changed body passed")
