"""A server with OpenAI's completions for tests, which answers by a function or goes wrong in a way that is named."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch

from pcbench import ops
from pcbench.models import load_runner


@contextmanager
def serving(answer=lambda ids, count: [7] * count, *, how="", models=("made",), port=0):
    """The URL of a server and the list of what it is asked.

    Args:
        answer: from ids and a number of tokens to so many tokens.
        how: what goes wrong; nothing where it is empty.
        models: that it serves.
        port: any that is free where it is 0.
    """
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            self._tell({"data": [{"id": name, "owned_by": "tests"} for name in models]})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body | {"key": self.headers.get("Authorization")})
            if how == "refuses":
                self._tell({"error": {"message": "the prompt is longer than the context\nof this server"}}, 400)
            elif how == "slow":
                time.sleep(3)
            else:
                self._stream(body)

        def _tell(self, found, status=200):
            data = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _stream(self, body):
            self.send_response(200)
            self.end_headers()
            ids, tokens = body["prompt"], answer(body["prompt"], body["max_tokens"])
            for i, token in enumerate(tokens):
                choice = {"index": 0, "text": f"<{token}>", "token_ids": [token]}
                if how == "text":
                    del choice["token_ids"]
                self._event({"choices": [choice]})
                if how == "trickles":
                    # an answer that never ends, though something always comes
                    for _ in range(200):
                        self.wfile.write(b":\n")
                        time.sleep(0.02)
                if how == "cut" and i == 1:
                    return
                if how == "broken":
                    self.wfile.write(b"data: {no JSON\n\n")
            if how != "empty":
                self._event({"choices": [{"index": 0, "text": "", "finish_reason": "length"}]})
            usage = {"prompt_tokens": len(ids) + (how == "longer"), "completion_tokens": len(tokens)}
            if how != "silent":
                usage["prompt_tokens_details"] = {"cached_tokens": 5 if how == "cached" else 0}
            self._event({"choices": [], "usage": usage})
            self.wfile.write(b"data: [DONE]\n\n")

        def _event(self, found):
            self.wfile.write(b"data: " + json.dumps(found).encode() + b"\n\n")
            self.wfile.flush()

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request, client_address):
            """Clients that have gone are no news."""

    with Quiet(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()


def greedy(model="random:tiny"):
    """The most likely tokens by the model itself."""
    runner = load_runner(model, torch.device("cpu"), torch.float32, ops.backend("reference"))

    @torch.inference_mode()
    def answer(ids, count):
        cache, tokens, new = None, [], torch.tensor([ids])
        for _ in range(count):
            logits, cache = runner.stock_forward(new, cache)
            tokens.append(int(logits.argmax(-1)))
            new = torch.tensor([tokens[-1:]])
        return tokens

    return answer
