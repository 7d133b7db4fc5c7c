"""Hands the container's one submission to Otter."""

import os

from otter.run.run_autograder import main

if __name__ == "__main__":
    main(os.environ.get("ATTN_AUTOGRADER", "/autograder"))
