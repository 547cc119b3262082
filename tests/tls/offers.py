# What a server offers by TLS, tried one by one: protocols, ciphers, groups, ALPN, sessions. Prints it as JSON.
# Arguments: the server's address, the site's name.
import json
import socket
import ssl
import subprocess
import sys

address, name = sys.argv[1:]


def s_client(*words):
    done = subprocess.run(
        ["openssl", "s_client", "-connect", address + ":443", "-servername", name, *words],
        input=b"", capture_output=True, timeout=20)
    return done.stdout.decode("utf-8", "replace") + done.stderr.decode("utf-8", "replace")


def accepted(*words):
    text = s_client(*words)
    return "Cipher is " in text and "Cipher is (NONE)" not in text


# The oldest ones are off in this machine's own library unless it is told to take anything.
lax = ["-cipher", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"]
protocols = [one for one in ("tls1", "tls1_1", "tls1_2", "tls1_3") if accepted("-" + one, *lax)]
listed = subprocess.run(["openssl", "ciphers", "-s", "-tls1_2", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"], capture_output=True, check=True)
ciphers = [one for one in listed.stdout.decode().strip().split(":")
           if accepted("-tls1_2", "-cipher", one + ":@SECLEVEL=0")]
modern = [one for one in ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
                          "TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256") if accepted("-tls1_3", "-ciphersuites", one)]
groups = [one for one in ("X25519", "P-256", "P-384", "P-521", "X448", "brainpoolP256r1")
          if accepted("-tls1_3", "-groups", one)]
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_alpn_protocols(["h2", "http/1.1"])
with context.wrap_socket(socket.create_connection((address, 443), 20), server_hostname=name) as connection:
    alpn = connection.selected_alpn_protocol()
text = s_client("-tls1_2")
print(json.dumps({
    "protocols": protocols,
    "ciphers": sorted(ciphers),
    "modern": modern,
    "groups": groups,
    "alpn": alpn,
    "tickets": "TLS session ticket:" in text,
    "compression": "Compression: NONE" not in text,
    "renegotiation": "Secure Renegotiation IS supported" in text,
}))
