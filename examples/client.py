#!/usr/bin/env python3
"""A client of a branch on one page, with the standard library alone: it proves the bank's key, asks one thing, and prints
the answer.

    examples/client.py 127.0.0.1:9100 bank.key deposit '{"account_no": "1001", "amount": "100"}'

A write carries a request id, so that asking again after a lost answer can't do it twice: the same id, given as the last
argument, gets the answer that is stored with the effect. The exit status is 1 when the branch refuses. Amounts are text
here, and stay the digits that were typed.
"""
import hashlib, hmac, json, secrets, socket, struct, sys


class Branch:
    def __init__(self, host, port):
        self.connection = socket.create_connection((host, port), timeout=30)
        self.stream = self.connection.makefile("rb")

    def ask(self, action, params, request_id=None):
        """Sends a frame (four bytes of length, then JSON) and waits for the answer."""
        request = {"action": action, "params": params} | ({"request_id": request_id} if request_id else {})
        body = json.dumps(request).encode()
        self.connection.sendall(struct.pack(">I", len(body)) + body)
        (length,) = struct.unpack(">I", self.stream.read(4))
        # Numbers stay text: a float would round amounts.
        answer = json.loads(self.stream.read(length), parse_float=str)
        if answer["status"] != "ok":
            sys.exit(f"{answer['code']}: {answer['error']}")
        return answer["result"]

    def prove(self, key):
        """Proves the key, both ways: the branch first, so that a stranger in its place learns nothing."""
        nonce = secrets.token_bytes(32)
        welcome = self.ask("hello", {"nonce": nonce.hex()})

        def proof(side):
            text = side + b"\0" + nonce + bytes.fromhex(welcome["nonce"]) + welcome["branch"].encode()
            return hmac.new(key, text, hashlib.sha256).hexdigest()

        if not hmac.compare_digest(welcome["proof"], proof(b"bank branch proof 1")):
            sys.exit("this is no branch of our bank")
        self.ask("authenticate", {"proof": proof(b"bank client proof 1")})


if __name__ == "__main__":
    address, key_file, action, params, *request_id = sys.argv[1:]
    host, port = address.rsplit(":", 1)
    branch = Branch(host, int(port))
    branch.prove(bytes.fromhex(open(key_file).read()))
    print(json.dumps(branch.ask(action, json.loads(params), *(request_id or [secrets.token_hex(16)]))))
