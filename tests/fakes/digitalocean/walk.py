"""DigitalOcean's official client, pydo, through all kinds of resources: URL TOKEN. Prints each kind that it has done."""

import sys
import time

from azure.core.exceptions import HttpResponseError
from pydo import Client

url, token = sys.argv[1:]
client = Client(token, endpoint=url)
insecure = {"enforce_https": False}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIw8MkBv0ScRC4gk1x3FwZ9D9OQ1+C5T0Jc7z8rFKY2G pydo"
done = []


def finish(action_id):
    deadline = time.monotonic() + 30
    while client.actions.get(action_id, **insecure)["action"]["status"] != "completed":
        assert time.monotonic() < deadline, f"action {action_id} does not complete"


def every(operation, name, **filters):
    """All of a list, page by page."""
    page, found = 1, []
    while True:
        answer = operation(page=page, per_page=20, **filters, **insecure)
        found += answer[name]
        if "next" not in answer.get("links", {}).get("pages", {}):
            assert len(found) == answer["meta"]["total"]
            return found
        page += 1


def refused(status, operation):
    """Whether an operation is answered with that status, as an error or as pydo sees some: as a value."""
    try:
        answer = operation()
    except HttpResponseError as error:
        assert error.status_code == status, error
    else:
        assert (status, answer.get("id")) == (404, "not_found"), answer


key = client.ssh_keys.create(body={"name": "pydo", "public_key": KEY}, **insecure)["ssh_key"]
assert client.ssh_keys.get(key["fingerprint"], **insecure)["ssh_key"] == key
assert every(client.ssh_keys.list, "ssh_keys") == [key]
refused(422, lambda: client.ssh_keys.create(body={"name": "again", "public_key": KEY}, **insecure))
done.append("keys")

ids = []
for number in range(22):
    body = {"name": f"pydo-{number}", "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64",
            "ssh_keys": [key["fingerprint"]], "tags": ["pydo"]}
    made = client.droplets.create(body=body, **insecure)
    ids.append(made["droplet"]["id"])
    finish(made["links"]["actions"][0]["id"])
assert [droplet["id"] for droplet in every(client.droplets.list, "droplets", tag_name="pydo")] == ids
one = client.droplets.get(ids[0], **insecure)["droplet"]
assert one["status"] == "active" and one["networks"]["v4"], one
action = client.droplet_actions.post(ids[0], body={"type": "power_off"}, **insecure)["action"]
finish(action["id"])
assert client.droplets.get(ids[0], **insecure)["droplet"]["status"] == "off"
done.append("droplets")

everywhere = {"addresses": ["0.0.0.0/0", "::/0"]}
rules = {"inbound_rules": [{"protocol": "tcp", "ports": "22", "sources": everywhere}],
         "outbound_rules": [{"protocol": "tcp", "ports": "all", "destinations": everywhere}]}
firewall = client.firewalls.create(body={"name": "pydo", "tags": ["pydo"], **rules}, **insecure)["firewall"]
assert len(firewall["pending_changes"]) == 22, firewall
while client.firewalls.get(firewall["id"], **insecure)["firewall"]["status"] != "succeeded":
    pass
body = {"name": "pydo", "droplet_ids": ids[:1], **rules}
assert client.firewalls.update(firewall["id"], body=body, **insecure)["firewall"]["tags"] == []
client.firewalls.delete(firewall["id"], **insecure)
assert every(client.firewalls.list, "firewalls") == []
done.append("firewalls")

made = client.reserved_ips.create(body={"droplet_id": ids[1]}, **insecure)
ip = made["reserved_ip"]["ip"]
finish(made["links"]["actions"][0]["id"])
assert client.reserved_ips.get(ip, **insecure)["reserved_ip"]["droplet"]["id"] == ids[1]
finish(client.reserved_ips_actions.post(ip, body={"type": "unassign"}, **insecure)["action"]["id"])
client.reserved_ips.delete(ip, **insecure)
done.append("reserved_ips")

client.domains.create(body={"name": "example.com", "ip_address": "192.0.2.1"}, **insecure)
record = {"type": "A", "name": "www", "data": "192.0.2.1", "ttl": 60}
record = client.domains.create_record("example.com", body=record, **insecure)["domain_record"]
found = client.domains.list_records("example.com", name="www.example.com", type="A", **insecure)
assert found["domain_records"] == [record], found
changed = client.domains.patch_record("example.com", record["id"], body={"type": "A", "data": "192.0.2.2"}, **insecure)
assert changed["domain_record"]["data"] == "192.0.2.2"
client.domains.delete_record("example.com", record["id"], **insecure)
done.append("domains")

client.tags.create(body={"name": "more"}, **insecure)
tagged = {"resources": [{"resource_id": str(ids[2]), "resource_type": "droplet"}]}
client.tags.assign_resources("more", body=tagged, **insecure)
assert client.tags.get("more", **insecure)["tag"]["resources"]["droplets"]["count"] == 1
client.tags.unassign_resources("more", body=tagged, **insecure)
client.tags.delete("more", **insecure)
done.append("tags")

volume = client.volumes.create(body={"name": "data", "region": "fra1", "size_gigabytes": 5}, **insecure)["volume"]
attach = {"type": "attach", "droplet_id": ids[3], "region": "fra1"}
finish(client.volume_actions.post_by_id(volume["id"], body=attach, **insecure)["action"]["id"])
assert client.droplets.get(ids[3], **insecure)["droplet"]["volume_ids"] == [volume["id"]]
detach = {**attach, "type": "detach"}
finish(client.volume_actions.post_by_id(volume["id"], body=detach, **insecure)["action"]["id"])
client.volumes.delete(volume["id"], **insecure)
done.append("volumes")

project = client.projects.get_default(**insecure)["project"]
urns = {"resources": ["do:domain:example.com", f"do:droplet:{ids[4]}"]}
assigned = client.projects.assign_resources(project["id"], body=urns, **insecure)["resources"]
assert [resource["status"] for resource in assigned] == ["already_assigned"] * 2, assigned
assert len(every(lambda **rest: client.projects.list_resources(project["id"], **rest), "resources")) == 23
done.append("projects")

client.domains.delete("example.com", **insecure)
for droplet in ids:
    client.droplets.destroy(droplet, **insecure)
client.ssh_keys.delete(key["id"], **insecure)
refused(404, lambda: client.droplets.get(ids[0], **insecure))
print(*done)
