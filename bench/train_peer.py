"""The same training steps in PyTorch: transformers' LlamaForCausalLM, sdpa, fused AdamW, f32. Runs in the
environment of tools/peers. Prints one JSON object: seconds of each step, peak resident bytes."""
import argparse
import json
import resource
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("--config", required=True)  # the config.json that adze writes for the same model
parser.add_argument("--batch", type=int, required=True)
parser.add_argument("--length", type=int, required=True)
parser.add_argument("--steps", type=int, required=True)
parser.add_argument("--threads", type=int, required=True)
parser.add_argument("--compile", action="store_true")
options = parser.parse_args()

torch.set_num_threads(options.threads)
torch.manual_seed(1)
config = LlamaConfig(**json.load(open(options.config)))
config._attn_implementation = "sdpa"
config.use_cache = False
model = LlamaForCausalLM(config).float().train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)


def loss_of(tokens):
    return model(input_ids=tokens, labels=tokens).loss


step_loss = torch.compile(loss_of) if options.compile else loss_of
seconds, losses = [], []
for step in range(options.steps):
    tokens = torch.randint(config.vocab_size, (options.batch, options.length))
    start = time.perf_counter()
    loss = step_loss(tokens)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    losses.append(loss.item())
    seconds.append(time.perf_counter() - start)
print(json.dumps({"seconds": seconds, "losses": losses,
                  "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
