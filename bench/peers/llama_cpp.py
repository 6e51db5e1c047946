"""Prefill and decode speed of llama.cpp through llama-cpp-python, one JSON object a run.

Arguments: model file, threads, prompt length, tokens to decode. The tokens are arbitrary: speed
does not depend on them. No sampling is done, which favours this side.
"""

import ctypes
import json
import sys
import time

import llama_cpp as lc

path, threads, n_prompt, n_new = sys.argv[1], *map(int, sys.argv[2:5])
lc.llama_backend_init()
model = lc.llama_model_load_from_file(path.encode(), lc.llama_model_default_params())
params = lc.llama_context_default_params()
params.n_ctx = n_prompt + n_new + 64
params.n_batch = params.n_ubatch = 512
params.n_threads = params.n_threads_batch = threads
context = lc.llama_init_from_model(model, params)


def decode(tokens):
    for first in range(0, len(tokens), 512):
        part = tokens[first : first + 512]
        array = (ctypes.c_int32 * len(part))(*part)  # the batch only points to it
        if lc.llama_decode(context, lc.llama_batch_get_one(array, len(part))) != 0:
            sys.exit("llama_decode failed")
    lc.llama_synchronize(context)


prompt = [1000 + i * 7919 % 20000 for i in range(n_prompt)]
decode(prompt[:32])  # warm-up
lc.llama_memory_clear(lc.llama_get_memory(context), True)
start = time.perf_counter()
decode(prompt)
middle = time.perf_counter()
for i in range(n_new):
    decode([prompt[i]])
end = time.perf_counter()
print(json.dumps({"prefill": n_prompt / (middle - start), "decode": n_new / (end - middle)}))
