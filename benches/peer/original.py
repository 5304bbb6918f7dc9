"""The original's algorithm in PyTorch, as a yardstick for `mmada bench`.

It is written here from the method's description: the same network, the same samplers, with the same
waste (full forwards over padded rows, logits of every row over the whole vocabulary, softmax in
float64). It is not needed to build, test or use mmada. README.md beside it says how to run it.
"""

import argparse
import json
import math
import pathlib
import statistics
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file


class Transformer(torch.nn.Module):
    """LLaDA's bidirectional transformer on the weights of a model directory."""

    def __init__(self, folder, dtype):
        super().__init__()
        folder = pathlib.Path(folder)
        self.cfg = json.loads((folder / "config.json").read_text())
        tensors = {}
        for path in sorted(folder.glob("*.safetensors")):
            tensors.update(load_file(path))
        prefix = "model.transformer."
        self.weights = torch.nn.ParameterDict(
            {
                name.removeprefix(prefix).replace(".", "_"): torch.nn.Parameter(tensor.to(dtype))
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }
        )

    def weight(self, name):
        return self.weights[f"{name}_weight"]

    def angles(self, length):
        width = self.cfg["d_model"] // self.cfg["n_heads"]
        steps = torch.arange(0, width, 2, dtype=torch.float32) / width
        turns = torch.outer(torch.arange(length).float(), 1.0 / self.cfg["rope_theta"] ** steps)
        turns = torch.cat((turns, turns), dim=-1)
        return turns.cos(), turns.sin()

    def forward(self, ids):
        """ids `[b, l]` to logits `[b, l, v]`."""
        cfg, eps = self.cfg, self.cfg["rms_norm_eps"]
        b, l = ids.shape
        heads = cfg["n_heads"]
        width = cfg["d_model"] // heads
        cos, sin = self.angles(l)
        x = F.embedding(ids, self.weight("wte"))

        def turned(x):
            x32 = x.float()
            first, second = x32.chunk(2, dim=-1)
            rotated = torch.cat((-second, first), dim=-1)
            return (x32 * cos + rotated * sin).to(x.dtype)

        def split(x):
            return x.view(b, l, heads, width).transpose(1, 2)

        for index in range(cfg["n_layers"]):
            def w(name):
                return self.weight(f"blocks_{index}_{name}")

            n = F.rms_norm(x, (cfg["d_model"],), w("attn_norm"), eps)
            q, k, v = (split(F.linear(n, w(f"{name}_proj"))) for name in "qkv")
            mixed = F.scaled_dot_product_attention(turned(q), turned(k), v)
            x = x + F.linear(mixed.transpose(1, 2).reshape(b, l, -1), w("attn_out"))
            n = F.rms_norm(x, (cfg["d_model"],), w("ff_norm"), eps)
            hidden = F.silu(F.linear(n, w("ff_proj"))) * F.linear(n, w("up_proj"))
            x = x + F.linear(hidden, w("ff_out"))
        x = F.rms_norm(x, (cfg["d_model"],), self.weight("ln_f"), eps)
        head = "wte" if cfg.get("weight_tying") else "ff_out"
        return F.linear(x, self.weight(head))


def random_ids(count, high):
    return torch.randint(0, high, (1, count), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def text(model, tokens, steps, prompt=32, block=32):
    """Semi-autoregressive blocks, low-confidence remasking, softmax in float64."""
    vocab = model.cfg["embedding_size"]
    mask = vocab // 2 - 1
    x = torch.full((1, prompt + tokens), mask)
    x[:, :prompt] = random_ids(prompt, mask)
    blocks = tokens // block
    per_block = steps // blocks
    for number in range(blocks):
        start = prompt + number * block
        end = start + block
        base, rest = divmod(block, per_block)
        for step in range(per_block):
            logits = model(x)
            chosen = logits.argmax(dim=-1)
            p = F.softmax(logits.to(torch.float64), dim=-1)
            confidence = p.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
            confidence[:, end:] = -math.inf
            is_masked = x == mask
            confidence = torch.where(is_masked, confidence, -math.inf)
            _, surest = confidence[0].topk(base + (1 if step < rest else 0))
            # Ids beyond the text would stay masked or change meaning; any other will do here.
            x[0, surest] = chosen[0, surest].clamp(max=mask - 1)
    return tokens


@torch.no_grad()
def image(model, tokens, steps, guidance, prompt=32):
    """MaskGIT's choice with guidance; every step forwards both halves over the whole vocabulary."""
    vocab = model.cfg["embedding_size"]
    first, mask = vocab // 2, vocab // 2 - 1
    x = torch.full((1, prompt + tokens), mask)
    x[:, :prompt] = random_ids(prompt, mask)
    empty = x.clone()
    empty[:, : prompt - 2] = x[:, :1]
    temperature = 1.0
    for step in range(steps):
        empty[:, prompt:] = x[:, prompt:]
        with_prompt, without = model(torch.cat((x, empty))).chunk(2)
        logits = (1 + guidance) * with_prompt - guidance * without
        p = F.softmax(logits[:, prompt:, first:].float(), dim=-1)
        drawn = torch.multinomial(p[0], 1)
        picked = p[0].gather(-1, drawn).squeeze(-1)
        is_masked = x[0, prompt:] == mask
        codes = torch.where(is_masked, drawn.squeeze(-1) + first, x[0, prompt:])
        ratio = (step + 1) / steps
        temperature *= 1 - ratio
        unknown = int(is_masked.sum())
        stay = max(1, min(unknown - 1, int(tokens * math.cos(math.pi / 2 * ratio))))
        noise = -torch.log(-torch.log(torch.rand_like(picked).clamp(1e-20)).clamp(1e-20))
        confidence = torch.where(
            is_masked, picked.clamp(1e-20).log() + temperature * noise, math.inf
        )
        again = confidence.topk(stay, largest=False).indices
        codes[again] = mask
        x[0, prompt:] = codes
    return tokens


def train(model, tokens, optimizer, length=128):
    vocab = model.cfg["embedding_size"]
    mask = vocab // 2 - 1
    ids = random_ids(tokens, mask).view(-1, length)
    noised = ids.clone()
    noised[:, ::2] = mask
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=model.autocast):
        logits = model(noised)
    is_masked = noised == mask
    loss = F.cross_entropy(logits[is_masked].float(), ids[is_masked])
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return tokens


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["forward", "text", "image", "train"])
    parser.add_argument("model", help="folder written by `mmada bench … --save`")
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float, default=3.5)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    half = args.precision == "bf16"
    # Training keeps weights in f32 and casts on the way; inference casts once.
    model = Transformer(args.model, torch.bfloat16 if half and args.task != "train" else torch.float32)
    model.autocast = half
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01)

    def once():
        if args.task == "forward":
            tokens = args.tokens or 640
            with torch.no_grad():
                model(random_ids(tokens, model.cfg["embedding_size"] // 2))
            return tokens
        if args.task == "text":
            tokens = args.tokens or 256
            return text(model, tokens, args.steps or tokens)
        if args.task == "image":
            return image(model, args.tokens or 256, args.steps or 15, args.guidance)
        return train(model, args.tokens or 8192, optimizer)

    once()
    seconds = []
    for _ in range(args.repeat):
        started = time.perf_counter()
        tokens = once()
        seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds)
    print(
        json.dumps(
            {
                "peer": f"torch {torch.__version__}",
                "bench": args.task,
                "precision": args.precision,
                "threads": args.threads,
                "repeat": args.repeat,
                "seconds": median,
                "seconds_min": min(seconds),
                "seconds_max": max(seconds),
                "tokens": tokens,
                "tokens_per_second": tokens / median,
            }
        )
    )


if __name__ == "__main__":
    main()
