"""Side by side in one run: our code, plain PyTorch, torch.compile and a re-creation of the peers' loops, on the same work.

Ours is first checked against a definition or another library; no time is reported where that fails. What the peers' sampler and the plain
kernels do is the same work on other random numbers, so that their results cannot be compared.
"""

WHAT = ("kernels", "step", "sampling", "judges", "audit")
