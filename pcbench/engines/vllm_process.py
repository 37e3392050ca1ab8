"""Runs where vLLM is and pcbench is not: prompts of token ids on stdin, answers on stdout, as JSON lines.

The first line on stdin says what to load, and the first on stdout that it is there, or {"error": ...}. Every other line
is a prompt, and gets a line. The time of a prompt is that of `LLM.generate`, by this process's clock, and where vLLM
keeps statistics of a request, those of the time from its scheduling to its first token, and from there to its last.
"""

import json
import os
import sys
import time
from typing import Any


def first_line(error: BaseException) -> str:
    """What an error says in one line; some say nothing."""
    return (str(error) or type(error).__name__).splitlines()[0]


def loaded(asked: dict[str, Any]) -> tuple[Any, Any]:
    """The model, without a cache of prompts."""
    import vllm

    model = vllm.LLM(
        model=asked["model"],
        dtype=asked["dtype"],
        max_model_len=asked["tokens"],
        enable_prefix_caching=False,
        disable_log_stats=False,
    )
    return vllm, model


def answered(vllm: Any, model: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """What becomes of a prompt."""
    sampling = vllm.SamplingParams(temperature=0.0, max_tokens=asked["new_tokens"], ignore_eos=asked["fixed_length"])
    start = time.perf_counter()
    (made,) = model.generate([{"prompt_token_ids": asked["ids"]}], sampling, use_tqdm=False)
    ms = (time.perf_counter() - start) * 1e3
    (output,) = made.outputs
    # scheduled, and the first and the last token
    times = [getattr(made.metrics, name, 0.0) for name in ("scheduled_ts", "first_token_ts", "last_token_ts")]
    return {
        "tokens": list(output.token_ids),
        "text": output.text,
        "ms": ms,
        "prefill_ms": (times[1] - times[0]) * 1e3 if all(times) else None,
        "decode_ms": (times[2] - times[1]) * 1e3 if all(times) else None,
        "prompt_tokens": len(made.prompt_token_ids),
        "cached_tokens": made.num_cached_tokens,
    }


def main() -> None:
    """Loads what the first line says, and answers the others."""
    # what vLLM and its libraries print must not come between the lines
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    # the engine's core in this process: one clock, and nothing between it and the prompt
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

    def tell(found: dict[str, Any]) -> None:
        lines.write(json.dumps(found) + "\n")

    try:
        vllm, model = loaded(json.loads(sys.stdin.readline()))
        tell({"version": vllm.__version__})
        for line in sys.stdin:
            tell(answered(vllm, model, json.loads(line)))
    except Exception as error:
        tell({"error": f"{type(error).__name__}: {first_line(error)}"})
        raise


if __name__ == "__main__":
    main()
