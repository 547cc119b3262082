import os

server = {
    "ssh_config_file": os.environ["SSH_CONFIG"],
    "ssh_known_hosts_file": os.path.join(os.path.dirname(os.environ["SSH_CONFIG"]), "known_hosts"),
    "ssh_strict_host_key_checking": "yes",
}
hosts = [(os.environ["HOST"], server)]
