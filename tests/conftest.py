"""Settings of every unit test, made before torch and attn are imported: hence not in a fixture."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # small models: spinning threads cost more than they bring
os.environ["ATTN_CHECK_SHAPES"] = "1"  # every shape annotation of attn is checked at run time

import torch

torch.set_num_threads(1)
